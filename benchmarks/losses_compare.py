"""Loss terms, recipes' objectives and multi-stage supervision over equal steps, on a small set.

    python benchmarks/losses_compare.py DATA RESULTS --encoder efficientnet-lite0-57934424.pth

DATA holds photos/KIND/{im,gt}, cutouts/renders and backgrounds. The preset `tiny` is trained at
96 x 96 on a frozen ImageNet encoder, whose maps are computed once, so that what differs is the
decoder's objective alone: same pictures, order, first weights, learning rate, steps. Every run is
kept in the folder RESULTS as it ends, and is not repeated; the tables are printed at the end (and
with --show at once).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from held_out import is_held_out, pairs
from torch import Tensor

from birefnet.evaluation import evaluate_pair
from birefnet.network.birefnet import BiRefNet, SupervisedOutput
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.training.loss_settings import LossSettings
from birefnet.training.objective import Objective
from birefnet.training.pretrained import load_backbone
from birefnet.training.recipes import get_recipe

PRESET, SIZE, BATCH, STEPS, RATE = "tiny", 96, 8, 120, 3e-3
EPOCHS = 20
"""What the objective takes the steps for, so that a last phase is the last tenth of them."""
MARKS = (60, 120)
"""Steps after which the test pictures are scored."""
COLUMNS = {
    "iou": "IoU",
    "weighted_f_measure": "weighted F",
    "matte_mae": "MAE",
    "matte_mse": "MSE",
    "gradient": "gradient",
}
PHOTOS = {"clothing": (100, 30), "cats": (100, 30), "mixed": (40, 6)}
"""Pictures for training and for testing, at most."""
MATTES = (240, 60)


def _settings(name: str, variant: str = "recommended") -> LossSettings:
    """A recipe's objective, its last phase as the last tenth of these short runs."""
    loss = get_recipe(name, variant).loss
    phases = tuple(replace(phase, last=0.1) for phase in loss.phases)
    return replace(loss, phases=phases, classification=0.0)


def _only(**weights: float) -> LossSettings:
    none = dict.fromkeys(("bce", "iou", "ssim", "gradient", "classification"), 0.0)
    return LossSettings(**{**none, **weights})


_BEST = _settings("dis5k")
_SOFT = _settings("matting")
MASKS = {
    "recommended": _BEST,
    "… without its last phase": replace(_BEST, phases=()),
    "… without gradient labels": replace(_BEST, gradient=0.0),
    "… without multi-stage supervision": replace(_BEST, coarse=0.0),
    "… without both": replace(_BEST, coarse=0.0, gradient=0.0),
    "… with coarse maps at 0.4": replace(_BEST, coarse=0.4),
    "… with ten times the IoU": replace(_BEST, iou=20.0),
    "… with both": replace(_BEST, coarse=0.4, iou=20.0),
    "paper": _settings("dis5k", "paper"),
    "official": _settings("dis5k", "official"),
    "general, recommended": _settings("general"),
    "nano": get_recipe("nano").loss,
    "BCE alone": _only(bce=30),
    "IoU alone": _only(iou=2),
    "BCE + IoU": _only(bce=30, iou=2),
}
SOFT = {
    "matting, recommended": _SOFT,
    "… without pyramid": replace(_SOFT, laplacian=0.0),
    "… without composition": replace(_SOFT, composition=0.0),
    "matting, official": _settings("matting", "official"),
    "BCE alone": _only(bce=30),
}


@dataclass(frozen=True)
class Pictures:
    """RGB uint8 (N,H,W,3) and alpha uint8 (N,H,W)."""

    rgb: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """Pictures as the decoder takes them: normalised, with the frozen encoder's maps."""

    image: Tensor
    truth: Tensor
    maps: list[Tensor]
    context: Tensor

    def take(self, numbers: Tensor) -> Encoded:
        """Some of them."""
        maps = [m[numbers] for m in self.maps]
        return Encoded(self.image[numbers], self.truth[numbers], maps, self.context[numbers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after the run under way")
    parser.add_argument("--show", action="store_true", help="print what is there, train nothing")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.show:
        _run_all(options)
    print(table(options.results, "masks", MASKS, ("iou", "weighted_f_measure", "matte_mae")))
    print(table(options.results, "mattes", SOFT, ("matte_mae", "matte_mse", "gradient")))


def _run_all(options: argparse.Namespace) -> None:
    started = time.monotonic()
    groups: tuple[tuple[str, dict[str, LossSettings], Callable[[Path], tuple[Pictures, ...]]], ...]
    groups = (("masks", MASKS, photos), ("mattes", SOFT, composites))
    todo = [
        (group, name, seed)
        for seed in options.seeds
        for group, objectives, _ in groups
        for name in objectives
    ]
    encoded: dict[str, tuple[Encoded, Encoded, Pictures]] = {}
    for group, name, seed in todo:
        path = result_path(options.results, group, name, seed)
        if path.exists() or time.monotonic() - started > 60 * options.minutes:
            continue
        _, objectives, load = next(g for g in groups if g[0] == group)
        if group not in encoded:
            network = make_network(0, options.encoder)
            training, testing = load(options.data)
            encoded[group] = (encode(network, training), encode(network, testing), testing)
        before = time.monotonic()
        scores = train(make_network(seed, options.encoder), objectives[name], *encoded[group], seed)
        path.write_text(json.dumps(scores), encoding="utf-8")
        taken = time.monotonic() - before
        print(f"{group}, {name}, seed {seed}: {taken:.0f} s", flush=True)


def result_path(folder: Path, group: str, name: str, seed: int) -> Path:
    words = "".join(c if c.isalnum() else "_" for c in f"{group} {name} {seed}")
    return folder / f"{words}.json"


def photos(data: Path) -> tuple[Pictures, Pictures]:
    """Training and test photos with their masks, stretched to SIZE."""
    sides: tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]] = ([], [])
    for kind, most in PHOTOS.items():
        found = pairs(data / "photos" / kind)
        for side, held_out in enumerate((False, True)):
            fitting = [pair for pair in found if is_held_out(pair[0].name) == held_out]
            step = max(1, len(fitting) // most[side])
            sides[side].extend(fitting[::step][: most[side]])
    return tuple(Pictures(*_stack([_photo(*pair) for pair in side])) for side in sides)  # type: ignore[return-value]


def _photo(image: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    rgb = cv2.imread(str(image), cv2.IMREAD_COLOR)[..., ::-1]
    return _fit(rgb), _fit(cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE))


def composites(data: Path) -> tuple[Pictures, Pictures]:
    """Training and test composites of renders with exact alpha over backgrounds."""
    cutouts = sorted((data / "cutouts" / "renders").iterdir())
    scenes = [_fit(cv2.imread(str(p))[..., ::-1]) for p in sorted((data / "backgrounds").iterdir())]
    made = []
    for held_out, most in zip((False, True), MATTES, strict=True):
        fitting = [path for path in cutouts if is_held_out(path.name) == held_out]
        ground = scenes[::8] if held_out else [s for i, s in enumerate(scenes) if i % 8]
        step = max(1, len(fitting) // most)
        chosen = fitting[::step][:most]
        made.append(
            Pictures(*_stack([_over(p, ground[i % len(ground)]) for i, p in enumerate(chosen)]))
        )
    return made[0], made[1]


def _over(path: Path, scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    canvas = np.zeros((max(rgba.shape[:2]),) * 2 + (4,), np.float32)
    top, left = ((canvas.shape[0] - side) // 2 for side in rgba.shape[:2])
    canvas[top : top + rgba.shape[0], left : left + rgba.shape[1]] = rgba[..., [2, 1, 0, 3]]
    canvas[..., :3] *= canvas[..., 3:] / 255
    canvas = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    alpha = canvas[..., 3]
    rgb = canvas[..., :3] + scene * (1 - alpha[..., None] / 255)
    return np.round(rgb).astype(np.uint8), np.round(alpha).astype(np.uint8)


def _fit(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _stack(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    rgb, alpha = zip(*samples, strict=True)
    return np.stack(rgb), np.stack(alpha)


def make_network(seed: int, encoder: Path) -> BiRefNet:
    """The preset with ImageNet weights in its encoder, which stays as it is."""
    torch.manual_seed(seed)
    network = build_network(preset(PRESET))
    load_backbone(network.encoder.backbone, encoder)
    network.encoder.eval().requires_grad_(False)
    return network


@torch.no_grad()
def encode(network: BiRefNet, pictures: Pictures) -> Encoded:
    """All pictures through the encoder, once."""
    rgb = torch.from_numpy(pictures.rgb).permute(0, 3, 1, 2).float()
    image = (rgb - 127) / 128
    outputs = [network.encoder(part) for part in image.split(16)]
    maps = [torch.cat([maps[i] for maps, _ in outputs]) for i in range(4)]
    truth = torch.from_numpy(pictures.alpha)[:, None].float() / 255
    return Encoded(image, truth, maps, torch.cat([context for _, context in outputs]))


def decode(network: BiRefNet, part: Encoded) -> SupervisedOutput:
    """The rest of the network on encoded pictures."""
    assert network.squeeze is not None
    squeezed = network.squeeze(part.context)
    stages, gradients = network.decoder(squeezed, part.maps, part.image, supervised=True)
    return SupervisedOutput(stages, gradients, None)


def train(
    network: BiRefNet,
    settings: LossSettings,
    training: Encoded,
    testing: Encoded,
    truths: Pictures,
    seed: int,
) -> list[dict[str, float]]:
    """STEPS steps; the scores on the test pictures at each of MARKS."""
    pictures = len(training.image)
    objective = Objective(settings, epochs=EPOCHS)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=STEPS, pct_start=0.1
    )
    draw = torch.Generator().manual_seed(seed)
    passes = -(-STEPS * BATCH // pictures)
    order = torch.cat([torch.randperm(pictures, generator=draw) for _ in range(passes)])
    scores = []
    for step in range(STEPS):
        network.train()
        network.encoder.eval()
        part = training.take(order[step * BATCH : (step + 1) * BATCH])
        output = decode(network, part)
        loss, _ = objective(output, part.image, part.truth, epoch=step * EPOCHS // STEPS)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step + 1 in MARKS:
            scores.append(score(network, testing, truths))
    return scores


@torch.no_grad()
def score(network: BiRefNet, testing: Encoded, truths: Pictures) -> dict[str, float]:
    """Mean scores of the test pictures."""
    network.eval()
    numbers = torch.arange(len(testing.image))
    logits = [decode(network, testing.take(part)).logits for part in numbers.split(16)]
    mattes = torch.cat(logits).sigmoid()[:, 0].numpy()
    rows = []
    for matte, truth in zip(mattes, truths.alpha, strict=True):
        levels = np.round(matte * 255).astype(np.uint8)
        values = evaluate_pair(levels, truth, metrics=list(COLUMNS))
        rows.append([values[name] for name in COLUMNS])
    return dict(zip(COLUMNS, np.mean(rows, axis=0).tolist(), strict=True))


def table(
    folder: Path, group: str, objectives: dict[str, LossSettings], columns: Sequence[str]
) -> str:
    """Markdown: mean over the seeds ± half the range, at the end; the first column at each mark."""
    first = columns[0]
    head = [f"{COLUMNS[first]} at {mark}" for mark in MARKS] + [COLUMNS[c] for c in columns[1:]]
    lines = [f"| {group} | seeds | {' | '.join(head)} |", "|---|---|" + "---|" * len(head)]
    for name in objectives:
        runs = [
            json.loads(path.read_text(encoding="utf-8"))
            for seed in range(1, 100)
            if (path := result_path(folder, group, name, seed)).exists()
        ]
        if not runs:
            continue
        cells = [_cell([run[i][first] for run in runs]) for i in range(len(MARKS))]
        cells += [_cell([run[-1][column] for run in runs]) for column in columns[1:]]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    digits = 4 if max(values) < 0.05 else 3
    return f"{np.mean(values):.{digits}f} ± {(max(values) - min(values)) / 2:.{digits}f}"


if __name__ == "__main__":
    main()
