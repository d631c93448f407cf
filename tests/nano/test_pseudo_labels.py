"""The pseudo-labeller, on a model of u2netp's interface that sees whatever is bright."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from birefnet.inference.predictor import Predictor  # noqa: E402
from fakes import PLAIN, BrightEngine  # noqa: E402
from tools.nano import pseudo_labels  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution that averages the channels, and a sigmoid."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, 3, 320, 320]
    weight = helper.make_tensor("weight", kind, [1, 3, 1, 1], [1.0, 1.0, 1.0])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input.1", "weight"], ["sum"]),
            helper.make_node("Sigmoid", ["sum"], ["map"]),
        ],
        "bright",
        [helper.make_tensor_value_info("input.1", kind, shape)],
        [helper.make_tensor_value_info("map", kind, [1, 1, 320, 320])],
        [weight],
    )
    path = tmp_path_factory.mktemp("model") / "bright.onnx"
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def test_map_has_the_size_of_the_picture_and_marks_the_object(model: Path) -> None:
    rgb = np.zeros((60, 100, 3), np.uint8)
    rgb[10:50, 10:40] = 255
    found = pseudo_labels.PseudoLabeller(model)(rgb)
    assert found.shape == (60, 100)
    assert found[30, 25] > 0.9
    assert found[30, 80] < 0.1


def test_only_a_stretched_map_reaches_from_zero_to_one(model: Path) -> None:
    rgb = np.full((64, 64, 3), 100, np.uint8)
    rgb[:, :32] = 120  # both are bright against what the network knows
    network = pseudo_labels.PseudoLabeller(model)
    assert network(rgb).min() > 0.5
    stretched = network(rgb, stretch=True)
    assert stretched.min() < 0.01
    assert stretched.max() > 0.99


def test_the_map_of_both_ways_mirrors_with_the_picture(model: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    network = pseudo_labels.PseudoLabeller(model)
    one, other = network.both_ways(rgb), network.both_ways(np.ascontiguousarray(rgb[:, ::-1]))
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-5)


def test_kinds_without_masks_are_labelled_and_others_left_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("portraits", "cats"):
        (tmp_path / "photos" / kind / "im").mkdir(parents=True)
        picture = np.zeros((30, 20, 3), np.uint8)
        picture[5:25, 5:15] = 255
        cv2.imwrite(str(tmp_path / "photos" / kind / "im" / "a.png"), picture)
    (tmp_path / "photos" / "cats" / "gt").mkdir()
    pseudo_labels.main([str(model), str(tmp_path)])
    assert capsys.readouterr().out == "portraits: 1 picture labelled\n"
    made = cv2.imread(str(tmp_path / "photos/portraits/gt/a.png"), cv2.IMREAD_GRAYSCALE)
    assert made.shape == (30, 20)
    assert made[15, 10] > 200 > 60 > made[0, 0]
    assert not list((tmp_path / "photos" / "cats" / "gt").iterdir())


def test_photos_that_two_networks_see_differently_are_put_aside(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos" / "found"
    (folder / "im").mkdir(parents=True)
    same, other, empty = (np.zeros((64, 64, 3), np.uint8) for _ in range(3))
    same[10:50, 10:50] = 255
    other[10:50, 10:50] = 120  # bright for the labeller, too dark for the student
    for name, pixels in (("same", same), ("other", other), ("empty", empty)):
        cv2.imwrite(str(folder / "im" / f"{name}.png"), pixels)
    student = Predictor(BrightEngine(), PLAIN)
    monkeypatch.setattr(pseudo_labels.birefnet, "load", lambda name: student)
    pseudo_labels.main([str(model), str(tmp_path), "--student", "nano"])
    assert [path.name for path in (folder / "gt").iterdir()] == ["same.png"]
    assert [path.name for path in (folder / "im").iterdir()] == ["same.png"]
    assert {path.name for path in (folder / "unsure").iterdir()} == {"other.png", "empty.png"}
    made = cv2.imread(str(folder / "gt" / "same.png"), cv2.IMREAD_GRAYSCALE)
    assert made[30, 30] > 200 > 40 > made[5, 5]
