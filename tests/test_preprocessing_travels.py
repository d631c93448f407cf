"""Whatever way a model is written and read again, its mattes are those of the model in hand.

A tiny network with random weights, and preprocessing that nothing has by default: written by every
writer, read by every reader, compared on two pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import birefnet
from birefnet.api import load_network
from birefnet.cli.main import app
from birefnet.errors import BiRefNetError
from birefnet.export.calibration import CalibrationPictures
from birefnet.export.request import Request
from birefnet.export.run import export
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor
from birefnet.network.birefnet import BiRefNet
from birefnet.network.simplify import simplify
from birefnet.weights import load_checkpoint, save_directory
from birefnet.weights.convert import convert
from birefnet.weights.save import save_file
from discs import Discs, disc, recipe, tiny

OWN = Preprocess(96, 64, (0.1, 0.5, 0.7), (0.3, 0.2, 0.4), interpolation="bicubic")
UNUSUAL: dict[str, Preprocess] = {
    "stretch": OWN,
    "views": replace(OWN, views=((160, 96, True), (64, 96, False))),
    "mirror": replace(OWN, views=((96, 64, False), (96, 64, True))),
    "pad": replace(OWN, fit="pad", interpolation="area"),
    "native": replace(OWN, fit="native", multiple=32, minimum=64, maximum=128),
}
Mattes = list[NDArray[np.float32]]


def pictures() -> list[NDArray[np.uint8]]:
    """A landscape and a portrait, H x W x 3."""
    return [
        np.ascontiguousarray(disc(3, 160)[:110, :, :3]),
        np.ascontiguousarray(disc(4, 144)[:, :100, :3]),
    ]


def mattes(predictor: Predictor) -> Mattes:
    return [predictor.predict(picture).alpha for picture in pictures()]


def trained(preprocess: Preprocess) -> BiRefNet:
    """Random weights whose mattes are neither black nor white."""
    network = tiny().eval()
    network.preprocess = preprocess
    return network


@cache
def in_hand(preprocess: Preprocess) -> Mattes:
    return mattes(Predictor(simplify(trained(preprocess)), preprocess, device="cpu"))


def apart(one: Mattes, other: Mattes) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", UNUSUAL)
def test_every_part_of_the_preprocessing_shows_in_the_mattes(kind: str) -> None:
    """Or the comparisons below would find nothing."""
    own, expected = UNUSUAL[kind], in_hand(UNUSUAL[kind])
    others = [
        Preprocess(128, 128),
        replace(own, mean=Preprocess().mean, std=Preprocess().std),
        replace(own, interpolation="bilinear"),
        own.at(own.height, own.width),
    ]
    if own.views:
        others += [own.at(*own.views[0][:2]), replace(own, views=own.views[:1])]
    for other in others:
        assert apart(expected, in_hand(other)) > 2e-3, other


# Files and folders of weights


def by_transformers(folder: Path, network: BiRefNet, **options: Any) -> Path:
    integration = pytest.importorskip("birefnet.integrations.transformers")
    save_directory(folder / "first", network)
    model = integration.BiRefNetForImageSegmentation.from_pretrained(folder / "first")
    model.save_pretrained(folder / "out", **options)
    return folder / "out"


def around_a_network(folder: Path, network: BiRefNet) -> Path:
    integration = pytest.importorskip("birefnet.integrations.transformers")
    config = integration.BiRefNetConfig(network.config)
    integration.BiRefNetForImageSegmentation(config, network).save_pretrained(folder / "out")
    return folder / "out"


def as_variant(folder: Path, network: BiRefNet) -> Path:
    return by_transformers(folder, network, variant="own") / "model.own.safetensors"


def by_command(folder: Path, network: BiRefNet, target: str) -> Path:
    first = save_directory(folder / "first", network)
    done = CliRunner().invoke(app, ["models", "convert", str(first), str(folder / target)])
    assert done.exit_code == 0, done.output
    if not target.endswith("birefnet"):
        assert "Programs other than birefnet" in done.output
    return folder / target


WRITERS: dict[str, Callable[[Path, BiRefNet], Path]] = {
    "birefnet": lambda f, n: save_directory(f / "out", n),
    "huggingface": lambda f, n: save_directory(f / "out", n, layout="huggingface"),
    "safetensors": lambda f, n: save_file(f / "out.safetensors", n, layout="safetensors"),
    # The name of a released file, which else would bring that one's preprocessing.
    "released name": lambda f, n: save_file(
        f / "BiRefNet_HR-general-epoch_130.safetensors", n, layout="safetensors"
    ),
    "pth": lambda f, n: save_file(f / "out.pth", n, layout="pth"),
    "file in folder": lambda f, n: save_directory(f / "out", n) / "model.safetensors",
    "command, folder": lambda f, n: by_command(f, n, "birefnet"),
    "command, file": lambda f, n: by_command(f, n, "x.safetensors"),
    "command, pth": lambda f, n: by_command(f, n, "x.pth"),
    "transformers": by_transformers,
    "transformers, parts": lambda f, n: by_transformers(f, n, max_shard_size="100KB"),
    "transformers, variant": as_variant,
    "transformers, network": around_a_network,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_carry_it(writer: str, tmp_path: Path) -> None:
    """Views and a native size together set every field of the preprocessing."""
    for kind in ("views", "native"):
        own = UNUSUAL[kind]
        path = WRITERS[writer](tmp_path / kind, trained(own))
        assert load_checkpoint(path).preprocess == own
        read = birefnet.load(path, device="cpu", engine="torch")
        assert apart(in_hand(own), mattes(read)) < 1e-5
    for target in ("again.pth", "again.safetensors", "again"):
        written = convert(path, tmp_path / target, dtype=torch.float32)
        assert load_checkpoint(written).preprocess == own


def by_pipeline(path: Path) -> Mattes:
    integration = pytest.importorskip("birefnet.integrations.transformers")
    remove = integration.background_removal(path, device="cpu")
    return [remove(image, return_matte=True).alpha for image in _as_images()]


def _as_images() -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in pictures()]


def by_auto_classes(path: Path) -> Mattes:
    """With the image processor that was saved along, too."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("birefnet.integrations.transformers")
    model = transformers.AutoModelForImageSegmentation.from_pretrained(path)
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    remove = transformers.pipeline("background-removal", model=model, image_processor=processor)
    return [remove(image, return_matte=True).alpha for image in _as_images()]


def by_model(path: Path) -> Mattes:
    integration = pytest.importorskip("birefnet.integrations.transformers")
    model = integration.BiRefNetForImageSegmentation.from_pretrained(path)
    return mattes(model.predictor(device="cpu"))


def by_comfyui(path: Path) -> Mattes:
    from birefnet.integrations.comfyui import models

    return mattes(models.loaded(str(path), device="cpu", engine="torch").predictor)


def by_openvino(path: Path) -> Mattes:
    pytest.importorskip("openvino")
    return mattes(birefnet.load(path, device="cpu", dtype="fp32", engine="openvino"))


READERS: dict[str, Callable[[Path], Mattes]] = {
    "network": lambda path: mattes(Predictor(load_network(path), device="cpu")),
    "openvino": by_openvino,
    "transformers": by_model,
    "pipeline": by_pipeline,
    "auto classes": by_auto_classes,
    "comfyui": by_comfyui,
}


@pytest.mark.parametrize("kind", ["views", "native"])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_uses_it(reader: str, kind: str, tmp_path: Path) -> None:
    own = UNUSUAL[kind]
    path = by_transformers(tmp_path, trained(own))
    assert apart(in_hand(own), READERS[reader](path)) < 1e-3


def test_the_server_uses_it(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    import io

    from fastapi.testclient import TestClient

    from birefnet.serving.app import create_app

    path = save_directory(tmp_path / "out", trained(UNUSUAL["views"]))
    with TestClient(create_app(birefnet.load(path, device="cpu", engine="torch"))) as client:
        for image, expected in zip(_as_images(), in_hand(UNUSUAL["views"]), strict=True):
            file = io.BytesIO()
            image.save(file, "png")
            answer = client.post(
                "/v1/remove", files={"file": ("a.png", file.getvalue())}, data={"kind": "mask"}
            )
            assert answer.status_code == 200, answer.text
            found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))
            assert np.abs(found / 255 - expected).max() < 5e-3


def test_a_state_dict_file_is_one_for_torch(tmp_path: Path) -> None:
    """Tensors alone, for strict loading by any program."""
    path = save_file(tmp_path / "x.pth", trained(OWN), layout="pth")
    state = torch.load(path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    module = torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.zeros(1))})
    state_like = type(state)({"a": torch.ones(1)})
    state_like._metadata = state._metadata
    module.load_state_dict(state_like, strict=True)


def test_a_file_that_another_config_describes_is_not_written(tmp_path: Path) -> None:
    save_directory(tmp_path / "other", tiny(), Preprocess(64, 64))
    with pytest.raises(BiRefNetError, match=r"config\.json beside it"):
        save_file(tmp_path / "other" / "model.safetensors", trained(OWN), layout="safetensors")


# Files that an engine runs

EXPORTS: dict[str, tuple[str, dict[str, Any], float]] = {
    "onnx": ("x.onnx", {}, 1e-3),
    "onnx, dynamic": ("x.onnx", {"dynamic": True}, 1e-3),
    "onnx, standard": ("x.onnx", {"standard_ops": True}, 1e-3),
    "onnx, fp16": ("x.onnx", {"precision": "fp16"}, 0.05),
    "onnx, int8": ("x.onnx", {"precision": "int8"}, 0.1),
    "onnx, pixels": ("x.onnx", {"with_preprocessing": True}, 2e-2),
    "openvino": ("x.xml", {}, 1e-3),
    "openvino, dynamic": ("x.xml", {"dynamic": True}, 1e-3),
    "openvino, fp16": ("x.xml", {"precision": "fp16"}, 0.05),
    "openvino, int8": ("x.xml", {"precision": "int8"}, 0.1),
    "torch": ("x.pt2", {}, 1e-3),
    "torch, fp16": ("x.pt2", {"precision": "fp16"}, 0.05),
}
REFUSED = {
    ("onnx, pixels", "views"),
    *(("torch", kind) for kind in ("views", "native")),
    ("torch, fp16", "views"),
}


def exported(path: Path, preprocess: Preprocess, **options: Any) -> Path:
    pytest.importorskip("onnxruntime" if path.suffix == ".onnx" else "openvino")
    if options.get("precision") == "int8":
        shown = path.parent / "shown"
        shown.mkdir()
        for number in range(4):
            Image.fromarray(disc(number, 120)[..., :3]).save(shown / f"{number}.png")
        options["calibration"] = CalibrationPictures(
            shown, preprocess, options.get("size"), () if "size" in options else preprocess.views
        )
    request = Request(simplify(trained(preprocess)), preprocess, **options)
    return export(request, path).path


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        # Of several sizes, which every other way of a format has too, and of one.
        *(("onnx", kind) for kind in ("stretch", "mirror", "pad", "native")),
        *(("openvino", kind) for kind in ("mirror", "native")),
        *(("torch", kind) for kind in ("views", "native")),  # the next test has one size of it
        *((way, "views") for way in EXPORTS if "," in way),
    ],
)
def test_exports_carry_it_or_say_why_not(way: str, kind: str, tmp_path: Path) -> None:
    own = UNUSUAL[kind]
    name, options, tolerance = EXPORTS[way]
    if (way, kind) in REFUSED:
        with pytest.raises(BiRefNetError, match=r"give one view's size|export without"):
            exported(tmp_path / name, own, **options)
        assert not (tmp_path / name).exists()
        return
    path = exported(tmp_path / name, own, **options)
    predictor = birefnet.load(path, device="cpu")
    assert predictor.preprocess == own
    assert apart(in_hand(own), mattes(predictor)) < tolerance
    cases = json.loads(path.with_name(f"{name}.json").read_text())["parity"]["cases"]
    assert sum(case["what"] == "picture" for case in cases) == 2


@pytest.mark.parametrize(("way", "kind"), [("openvino", "native"), ("torch", "views")])
def test_one_size_is_one_view_as_a_resolution_is(way: str, kind: str, tmp_path: Path) -> None:
    own, name = UNUSUAL[kind], EXPORTS[way][0]
    path = exported(tmp_path / name, own, size=(128, 64))
    in_that_size = Predictor(simplify(trained(own)), own, device="cpu")
    expected = [one.alpha for one in in_that_size.predict(pictures(), resolution=(128, 64))]
    predictor = birefnet.load(path, device="cpu")
    assert predictor.preprocess == own.at(128, 64)
    assert apart(expected, mattes(predictor)) < 1e-3


def test_a_report_that_differs_in_the_mattes_alone_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is the same and what the file says of its pictures is not."""
    monkeypatch.setattr(Request, "written_preprocess", UNUSUAL["stretch"].at(128, 64))
    with pytest.raises(BiRefNetError, match="gives other mattes"):
        exported(tmp_path / "x.onnx", UNUSUAL["stretch"], dynamic=True)


# Training


@pytest.mark.parametrize("kind", ["views", "pad"])
def test_validation_scores_the_model_that_is_written(kind: str, tmp_path: Path) -> None:
    from birefnet.training.assemble import set_up_training
    from birefnet.training.loop import Trainer
    from birefnet.training.run_folder import RunFolder
    from birefnet.training.validation import Validator

    own = UNUSUAL[kind]
    init = save_directory(tmp_path / "init", trained(own))
    plan = recipe(
        init=str(init), network=None, data__width=96, data__height=64, schedule__steps=2,
        validation__every=1,
    )  # fmt: skip
    start = set_up_training(plan, name="tuned")
    assert start.preprocess == own

    def mean_error(matte: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
        return {"mae": float(np.abs(matte.astype(float) - truth).mean())}

    seen = Pictures()
    run = RunFolder(tmp_path / "run")
    trainer = Trainer(
        start.recipe, start.network, Normalised(preprocess=own), start.preprocess, run=run,
        validator=Validator({"seen": seen}, mean_error, "mae", False),
        model_info=start.model_info,
    )  # fmt: skip
    best = trainer.run().best
    predictor = birefnet.load(run.best, device="cpu", engine="torch")
    assert predictor.preprocess == own
    used = [
        mean_error(
            np.rint(predictor.predict(np.ascontiguousarray(seen.read(i)[..., :3])).alpha * 255),
            seen.read(i)[..., 3],
        )["mae"]
        for i in range(len(seen))
    ]
    assert best == pytest.approx(np.mean(used), abs=0.02)
    # Resumed, and averaged over runs, it is still there.
    resumed = set_up_training(
        start.recipe.override({"network": "tiny"}), name="tuned", weights=False, written=run.last
    )
    assert resumed.preprocess == own
    if own.fit == "stretch":
        from tools.nano.publish import publish

        publish([run.state], tmp_path / "mean", preset_name="tiny", name="mean")
        assert load_checkpoint(tmp_path / "mean").preprocess == own


class Normalised(Discs):
    """Discs that are prepared as the weights want them."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess


class Pictures:
    """Two pictures with truth, H x W x 4."""

    def __len__(self) -> int:
        return 2

    def read(self, index: int) -> NDArray[np.uint8]:
        return disc(3 + index, 150)[:110]


def test_data_of_another_kind_are_refused() -> None:
    from birefnet.training.loop import Trainer, TrainingError

    with pytest.raises(TrainingError, match="give both one Preprocess"):
        Trainer(recipe(), tiny(), Normalised(preprocess=Preprocess()), OWN)


# The bundled model


def test_nano_itself(tmp_path: Path) -> None:
    expected = mattes(birefnet.load("nano", device="cpu", engine="torch"))
    by = CliRunner()
    done = by.invoke(app, ["models", "convert", "nano", str(tmp_path / "x.pth")])
    assert done.exit_code == 0, done.output
    path = birefnet.load(tmp_path / "x.pth", device="cpu", engine="torch")
    assert apart(expected, mattes(path)) < 1e-4
    pytest.importorskip("onnxruntime")
    done = by.invoke(app, ["export", "nano", "-o", str(tmp_path / "x.onnx")])
    assert done.exit_code == 0, done.output
    assert "takes every size" in " ".join(done.output.split())
    assert apart(expected, mattes(birefnet.load(tmp_path / "x.onnx", device="cpu"))) < 1e-3
    done = by.invoke(app, ["export", "nano", "-o", str(tmp_path / "x.pt2")])
    assert isinstance(done.exception, BiRefNetError)
    assert "--size" in str(done.exception)
