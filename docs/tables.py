"""Tables of the documents that are made, not typed; a test finds out when they are behind.

    python docs/tables.py            # writes them anew
    python docs/tables.py --check    # says which are not current, exit status 1

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from birefnet.cli.reproduce.paper import ITEMS
from birefnet.network.config import PRESETS, NetworkConfig
from birefnet.options import OPTIONS
from birefnet.training.loss_settings import MAP_TERMS, LossPhase
from birefnet.training.recipe import Recipe
from birefnet.training.recipes import RECIPES
from birefnet.weights.catalogue import CHECKPOINTS, Checkpoint
from birefnet.weights.locate import bundled_names
from birefnet.weights.obtain import weight_files

DOCS = Path(__file__).parent
_SYMBOLS = {"none": "", "sqrt": " x √(step / {})", "linear": " x step / {}"}
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Zheng et al., CAAI AIR 2024, Table 7 at 1024²: ms on an A100, millions of parameters, GMACs, HCE
# and weighted F on DIS-TE.
TABLE_7 = {
    "swin_v1_l": ("83.3", 215, 1143, "916, .858"),
    "swin_v1_b": ("61.4", 101, 561, "954, .855"),
    "swin_v1_t": ("40.9", 39, 231, "980, .822"),
    "pvt_v2_b2": ("47.8", 35, 195, "969, .838"),
    "pvt_v2_b1": ("36.6", 23, 147, "978, .817"),
    "pvt_v2_b0": ("32.9", 11, 89, "1013, .806"),
}


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Markdown; `head` holds the titles, those of numbers with a colon behind them."""
    titles = [title.strip() for title in head.split("|")]
    rule = ["--:" if title.endswith(":") else "---" for title in titles]
    lines = [[title.rstrip(":") for title in titles], rule, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def models() -> str:
    """Networks that `--model` takes: the bundled ones, then those on Hugging Face."""
    sets = list(dict.fromkeys(c.data for c in _hub()))
    made = table(
        "name | for | input | network | MB: | reported score | licence | data",
        [
            *(_bundled(name) for name in bundled_names()),
            *(_row(c, ascii_uppercase[sets.index(c.data)]) for c in _hub()),
        ],
    )
    notes = (f"- **{ascii_uppercase[i]}**: {data}" for i, data in enumerate(sets))
    return made + "\n\n" + "\n".join(notes)


def _hub() -> list[Checkpoint]:
    return [c for c in CHECKPOINTS.values() if c.kind == "network" and c.repo]


def _bundled(name: str) -> list[object]:
    found = weight_files(name)
    settings = found.settings
    size = sum(path.stat().st_size for path in found.files)
    return [
        f"**`{name}`**",
        "any object; part of the package",
        " and ".join(f"{view[0]}x{view[1]}" for view in settings["preprocess"]["looks"]),
        settings["network"]["backbone"],
        f"{size / 1e6:.0f}",
        f"[measured]({name}.md)",
        str(settings["licence"]).partition(";")[0],
        f"[{name}]({name}.md#training)",
    ]


def _row(checkpoint: Checkpoint, note: str) -> list[object]:
    size = checkpoint.approximate_bytes
    exact = "" if checkpoint.bytes else "~"
    return [
        f"`{checkpoint.name}`",
        checkpoint.title,
        checkpoint.input_size,
        checkpoint.preset,
        f"{exact}{size / 1e6:.0f}" if size else "",
        "; ".join(map(str, checkpoint.scores)),
        checkpoint.licence,
        f"{note}{'' if checkpoint.use == 'free' else ', restricted'}",
    ]


def files() -> str:
    """Everything else in the table: files of releases, ONNX files, backbones."""
    others = [c for c in CHECKPOINTS.values() if c not in _hub()]
    return table(
        "name | for | input | network | MB: | licence | checksum",
        [
            (
                f"`{c.name}`",
                c.title,
                c.input_size if c.kind != "backbone" else "",
                c.preset,
                f"{c.bytes / 1e6:.0f}" if c.bytes else "",
                c.licence,
                "verified" if c.sha256 else "not published",
            )
            for c in others
        ],
    )


def efficiency() -> str:
    """The paper's Table 7 beside what `benchmarks/efficiency.py` measured."""
    measured = _measured()
    rows = []
    for name, row in measured["networks"].items():
        ms, parameters, macs, scores = TABLE_7.get(name, ("–", "–", "–", "–"))
        rows.append(
            (
                f"`{name}`",
                f"{row['parameters'] / 1e6:.1f}",
                f"{row['parameters_without_kernels'] / 1e6:.1f}",
                parameters,
                f"{row['macs'] / 1e9:.0f}",
                f"{row['macs_without_kernels'] / 1e9:.0f}",
                macs,
                f"{row['seconds']:.2f}",
                ms,
                scores,
            )
        )
    made = table(
        "network | parameters, M: | without kernels: | paper: | GMACs: | without kernels: | paper: "
        "| s, this CPU: | ms, paper's A100: | paper's DIS-TE HCE, wF",
        rows,
    )
    return made + (
        f"\n\n{measured['processor']}, {measured['threads']} threads, torch {measured['torch']}, "
        "float32, random weights."
    )


def _measured() -> dict[str, Any]:
    """The result of benchmarks/efficiency.py."""
    found: dict[str, Any] = json.loads(
        (DOCS / "data" / "efficiency.json").read_text(encoding="utf-8")
    )
    return found


def presets() -> str:
    """Every ablation and variant: what it changes in the paper's network, and what it costs."""
    default, counts = NetworkConfig(), _measured()
    whole = counts["networks"]["swin_v1_l"]
    rows: list[tuple[str, ...]] = [("`swin_v1_l`", "the whole network", *_costs(whole))]
    for name, config in PRESETS.items():
        if not name.startswith(("ablation_", "variant_")):
            continue
        changes = [
            f"`{field.name}={getattr(config, field.name)}`"
            for field in fields(config)
            if getattr(config, field.name) != getattr(default, field.name)
        ]
        rows.append((f"`{name}`", ", ".join(changes), *_costs(counts["ablations"][name])))
    return table("preset | what it changes | parameters, M: | GMACs at 1024²:", rows)


def _costs(row: dict[str, int]) -> tuple[str, str]:
    return f"{row['parameters'] / 1e6:.1f}", f"{row['macs'] / 1e9:.0f}"


def options() -> str:
    """The fields of `Options`."""
    rows = []
    for name, about in OPTIONS.items():
        text = about.help.replace("|", "\\|")
        usual = f"`{about.default!r}`" if about.default is not None else about.usual
        rows.append([f"`{name}`", text, about.range or "", usual])
    return table("field | meaning | numbers | left out", rows)


def paper(section: str) -> str:
    """The claims of the paper in one section of docs/paper.md, and the commands for them."""
    return table(
        "paper | claim | here | `reproduce` | kind",
        [
            (item.paper, item.claim, item.answer, f"`{item.key}`", item.kind)
            for item in ITEMS
            if item.section == section
        ],
    )


def recipes() -> str:
    """A row for each recipe and variant (combinations of hrsod share its row)."""
    columns: dict[str, Callable[[Recipe], str]] = {
        "recipe": lambda r: f"`{r.name}`",
        "variant": lambda r: r.variant,
        "network": lambda r: r.network or "that of the weights",
        "pictures": lambda r: (
            f"{r.data.width} x {r.data.height}" if r.network else "as the weights"
        ),
        "epochs": lambda r: str(r.schedule.epochs),
        "optimiser": _optimiser,
        "losses": _losses,
        "last phase": lambda r: "; ".join(map(_phase, r.loss.phases)) or "–",
    }
    return table(
        "|".join(columns),
        [
            [show(recipe) for show in columns.values()]
            for recipe in RECIPES.values()
            if not recipe.name.startswith("hrsod-")
        ],
    )


def _optimiser(recipe: Recipe) -> str:
    settings = recipe.optimiser
    scaling = _SYMBOLS[settings.batch_scaling].format(settings.reference_batch)
    encoder = "" if settings.encoder_factor == 1 else f", encoder x {settings.encoder_factor:g}"
    names = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
    shape = "" if recipe.schedule.shape == "constant" else f", {recipe.schedule.shape}"
    return f"{names[settings.name]} {settings.rate:g}{scaling}{encoder}{shape}"


def _losses(recipe: Recipe) -> str:
    loss = recipe.loss
    words = [f"{name} {getattr(loss, name):g}" for name in MAP_TERMS if getattr(loss, name)]
    words += ["IoU summed"] if loss.iou_summed and loss.iou else []
    words += [] if loss.ssim_halved else ["SSIM not halved"]
    words += [f"gradient {loss.gradient:g} ({loss.gradient_label})"] if loss.gradient else []
    has_classes = recipe.network_overrides.get("auxiliary_classes")
    words += [f"classes {loss.classification:g}"] if has_classes else []
    words += [f"coarse maps x {loss.coarse:g}"] if loss.coarse != 1 else []
    return ", ".join(words)


def _phase(phase: LossPhase) -> str:
    span = f"{phase.last:.0%} of the run" if phase.last < 1 else f"{phase.last:g} epochs"
    words = [f"{', '.join(phase.only)} alone"] if phase.only else []
    words += [f"{name} x {factor:g}" for name, factor in phase.multiply.items()]
    again = ", anew in each" if phase.repeated else ""
    return f"last {span}: {', '.join(words)}{again}"


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "files": files,
    "efficiency": efficiency,
    "presets": presets,
    "options": options,
    "recipes": recipes,
    "paper-method": partial(paper, "method"),
    "paper-tables": partial(paper, "tables"),
    "paper-figures": partial(paper, "figures"),
}


def renewed(text: str) -> str:
    """A page with all its tables made anew; a name without a maker is a KeyError."""
    return _BLOCK.sub(lambda m: f"{m[1]}\n{TABLES[m[2]]()}\n\n{m[3]}", text)


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="Write nothing.")
    check = parser.parse_args().check
    behind = 0
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = renewed(text)
        if new != text:
            behind += 1
            print(f"{page.name} {'is not current' if check else 'written'}")
            if not check:
                page.write_text(new, encoding="utf-8")
    return 1 if check and behind else 0


if __name__ == "__main__":
    sys.exit(main())
