"""What is drawn of a network is what it computes, for every form of it, and in every format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import birefnet
from birefnet.errors import BiRefNetError, ImageError
from birefnet.explain import Explanation, explain
from birefnet.explain import colours as paint
from birefnet.explain.field import receptive_field
from birefnet.explain.panels import uncertainty
from birefnet.imaging.geometry import Preprocess
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights.checkpoint import Loaded
from fakes import disc, write_disc

TINY = preset("tiny")
VARIANTS = {
    "whole": TINY,
    "no outward reference": replace(TINY, outward_reference=False),
    "no supervision": replace(TINY, outward_reference=False, multi_scale_supervision=False),
    "no inward reference": replace(TINY, inward_reference="none"),
    "whole image": replace(TINY, inward_reference="whole"),
    "plain": replace(TINY, attention="plain", squeeze=False, image_pyramid="none"),
    "residual pairs": replace(TINY, decoder_block="resnet", attention="none"),
}


def loaded(config: Any = TINY, **preprocess: Any) -> Loaded:
    """A network with random weights, its offsets included."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    for name, parameter in network.named_parameters():
        if ".offset." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    shape = Preprocess(**{"width": 96, "height": 64, **preprocess})
    return Loaded(network, config, shape, "tiny", None, "", Path(), torch.float32)


@pytest.fixture(scope="module")
def seen() -> Explanation:
    return explain(disc(48, 72), loaded(), point=(36, 24))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_is_drawn(name: str) -> None:
    found = explain(disc(48, 72), loaded(VARIANTS[name]))
    shapes = {panel.pixels.shape for panel in found.panels.values()}
    assert len(shapes) == 1
    has = {part for part in ("attention", "coarse", "patches") if f"stage4-{part}" in found.panels}
    config = VARIANTS[name]
    expected = {"attention"} if config.outward_reference else set()
    expected |= {"coarse"} if config.multi_scale_supervision else set()
    expected |= {"patches"} if config.inward_reference != "none" else set()
    assert has == expected
    assert ("samples-stage1" in found.panels) == (config.attention == "deformable")
    assert ("reads-stage4" in found.panels) == (config.inward_reference == "split")


def test_maps_are_those_of_the_network(seen: Explanation) -> None:
    network = loaded().network
    image = torch.from_numpy(seen.seen.image)[None]
    with torch.no_grad():
        out = network(image, supervised=True)
    np.testing.assert_allclose(seen.seen.logits, out.logits[0, 0].numpy(), atol=1e-4)
    for stage, coarse, gradient in zip(seen.seen.stages, out.stages, out.gradients, strict=False):
        assert stage.coarse is not None
        assert stage.gradient is not None
        np.testing.assert_allclose(stage.coarse, coarse.sigmoid()[0, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(stage.gradient, gradient.sigmoid()[0, 0].numpy(), atol=1e-5)
        assert stage.attention is not None
        np.testing.assert_allclose(
            stage.features * stage.attention, stage.attended, rtol=1e-4, atol=1e-6
        )
    assert [stage.stride for stage in seen.seen.stages] == [32, 16, 8, 4]
    assert [stage.grid[0] for stage in seen.seen.stages] == [32, 16, 8, 4]


def test_matte_is_the_predictor_s() -> None:
    one = loaded()
    expected = birefnet.Predictor(one.network, one.preprocess, device="cpu").predict(disc(48, 72))
    np.testing.assert_allclose(explain(disc(48, 72), one).matte.alpha, expected.alpha, atol=1e-5)


def test_field_is_the_gradient() -> None:
    """Against finite differences, and the network is left as it was."""
    network = loaded().network
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    field = receptive_field(network, image, (20, 30))
    assert not any(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    strongest = np.unravel_index(field.influence.argmax(), field.influence.shape)
    network, image = network.double(), image.double()
    total = 0.0
    for channel in range(3):
        step = torch.zeros_like(image)
        step[0, channel][strongest] = 1e-6
        with torch.no_grad():
            change = network(image + step) - network(image - step)
        total += abs(float(change[0, 0, 20, 30])) / 2e-6
    assert total == pytest.approx(field.influence[strongest], rel=2e-3)
    assert field.radius(0.5) < field.radius(0.9) <= 64 * 2**0.5


def test_samplings_start_as_a_grid() -> None:
    """Where offsets are zero, taps lie on the pixel and its neighbours, one stride apart."""
    network = build_network(TINY).eval()
    field = receptive_field(network, torch.zeros(1, 3, 64, 64), (33, 17))
    assert [(s.stage, s.kernel) for s in field.samplings] == [
        (stage, kernel) for stage in (4, 3, 2, 1) for kernel in (1, 3)
    ]
    (last,) = [s for s in field.samplings if (s.stage, s.kernel) == (1, 3)]
    np.testing.assert_allclose(last.positions.min(axis=0), (30, 14))
    np.testing.assert_allclose(last.positions.max(axis=0), (38, 22))
    np.testing.assert_allclose(last.weights, 1)


@pytest.mark.parametrize("fit", ["stretch", "pad", "native"])
def test_point_is_found_again(fit: str) -> None:
    """Whatever the fit, the cross lies where it was asked for."""
    picture = disc(60, 180)
    found = explain(picture, loaded(fit=fit, minimum=64), point=(0.75, 0.25))
    assert found.field is not None
    white = found.panels["reads-stage1"].pixels.min(axis=2) > 180
    row, column = (at.mean() for at in np.nonzero(white))
    height, width = white.shape
    assert row / height == pytest.approx(0.25, abs=0.03)
    assert column / width == pytest.approx(0.75, abs=0.03)


def test_least_decided_pixel_by_default(seen: Explanation) -> None:
    found = explain(disc(48, 72), loaded())
    assert found.field is not None
    height, width = found.seen.logits.shape
    assert (height, width) == (64, 96)
    assert abs(found.seen.logits[found.field.pixel]) == np.abs(found.seen.logits).min()
    without = explain(disc(48, 72), loaded(), field=False)
    assert without.field is None
    assert "field" not in without.panels


def test_uncertainty() -> None:
    np.testing.assert_allclose(uncertainty(np.float32([0, 0.5, 1])), (0, 1, 0), atol=1e-5)


def test_features_as_colours() -> None:
    """Two regions of different features have two colours; no differences are black."""
    x = np.zeros((5, 4, 6), np.float32)
    x[2, :, 3:] = 7
    drawn = paint.features(x)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2
    assert not paint.features(np.ones((1, 3, 3), np.float32)).any()
    np.testing.assert_array_equal(paint.features(x), paint.features(x + 5))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "html"])
def test_formats(seen: Explanation, suffix: str, tmp_path: Path) -> None:
    if suffix != "html":
        pytest.importorskip("matplotlib")
    seen.save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    if suffix == "png":
        with Image.open(tmp_path / "a.png") as image:
            assert image.width > image.height / 4 > 100
    if suffix == "html":
        assert data.count(b"<img") == len(seen.panels)
    assert len(data) > 5000


@pytest.mark.parametrize("size", [(1, 1500), (1500, 1), (16, 2000)])
def test_a_sheet_is_small_whatever_the_picture_s_shape(
    size: tuple[int, int], tmp_path: Path
) -> None:
    """It was a million pixels high, and took 14 GB, for a picture one pixel wide."""
    explain(disc(size[1], size[0]), loaded(), field=False).save(tmp_path / "a.png")
    width, height = Image.open(tmp_path / "a.png").size
    assert width * height < 25_000_000


def test_panels_are_written(seen: Explanation, tmp_path: Path) -> None:
    written = seen.save_panels(tmp_path / "new" / "panels")
    assert [path.stem for path in written] == list(seen.panels)
    with Image.open(tmp_path / "new" / "panels" / "stage3-attention.png") as image:
        assert max(image.size) == 480


def test_refusals(tmp_path: Path, seen: Explanation) -> None:
    with pytest.raises(BiRefNetError, match="outside the picture"):
        explain(disc(), loaded(), point=(900, 3))
    (tmp_path / "some.onnx").touch()
    with pytest.raises(BiRefNetError, match="exported file"):
        explain(disc(), tmp_path / "some.onnx")
    with pytest.raises(BiRefNetError, match=r"\.png, \.svg"):
        seen.save(tmp_path / "a.bmp")
    with pytest.raises(ImageError):
        explain(b"nothing", loaded())


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`birefnet explain` with the bundled model, as typed."""
    from typer.testing import CliRunner

    from birefnet.cli.main import app

    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    picture = write_disc(tmp_path / "a.png")
    words = ["explain", str(picture), "-o", str(tmp_path / "a.html"), "--resolution", "64"]
    done = CliRunner().invoke(app, [*words, "--point", "0.5,0.5", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["model"] == "nano"
    assert report["input"] == {"width": 64, "height": 64}
    assert len(report["stages"]) == 4
    assert report["field"]["radius_50"] <= report["field"]["radius_90"]
    assert (tmp_path / "a.html").exists()
