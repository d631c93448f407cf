"""A predictor that is loaded before a fork, sent to another process, or copied."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import birefnet
from birefnet.errors import BiRefNetError, DeviceError
from birefnet.export.request import Request
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.picture import Limits
from birefnet.inference.engines.torch_engine import go_on_in_fork
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify
from birefnet.weights.save import save_file
from fakes import BrightEngine, disc

# Predicts `warm` times before the fork; the child predicts alone, in a list and from threads, then
# ends as a program does (exit) or as workers of multiprocessing do (_exit).
FORKED = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import birefnet

model, engine, warm, ends = sys.argv[1:]
predictor = birefnet.load(model, engine=engine)
picture = np.zeros((64, 64, 3), np.uint8)
picture[16:48, 16:48] = 255
expected = None
if warm in ("one", "many"):
    expected = predictor.predict(picture, resolution=64).coverage
if warm == "many":
    list(predictor.predict([picture] * 4, resolution=64))
child = os.fork()
if not child:
    one = predictor.predict(picture, resolution=64).coverage
    found = [matte.coverage for matte in predictor.predict([picture] * 4, resolution=64)]
    with ThreadPoolExecutor(3) as pool:
        found += pool.map(lambda _: predictor.predict(picture, resolution=64).coverage, range(4))
    if model == "nano":
        predictor.predict(picture, resolution=96)  # a size that the parent has not met
    good = np.ptp([one, *found, one if expected is None else expected]) < 1e-4
    (sys.exit if ends == "exit" else os._exit)(0 if good else 3)
_, status = os.waitpid(child, 0)
predictor.predict(picture, resolution=64)
sys.exit(os.waitstatus_to_exitcode(status))
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def forked(model: str, engine: str, warm: str, ends: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, model, engine, warm, ends],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize(
    ("engine", "warm"),
    [("torch", "none"), ("torch", "many"), ("openvino", "many"), ("onnx", "many")],
)
def test_a_forked_process_predicts_and_ends(engine: str, warm: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    forked("nano", engine, warm, "exit")


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_forked_worker_runs_an_exported_file(tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        from birefnet.export.onnx import export_onnx as write
    else:
        from birefnet.export.torch_program import export_torch_program as write
    path = tmp_path / f"tiny.{form}"
    torch.manual_seed(0)
    network = simplify(build_network("tiny").eval(), inplace=True)
    write(Request(network, Preprocess(64, 64)), path)
    forked(str(path), "auto", "many", "exit" if form == "onnx" else "_exit")


def test_a_network_on_a_gpu_is_refused_in_a_fork() -> None:
    with pytest.raises(DeviceError, match=r"forked from .* which a fork cannot use"):
        go_on_in_fork(torch.device("cuda:0"))


def mattes_there(predictor: birefnet.Predictor) -> float:
    return float(predictor.predict(disc()).coverage)


def test_workers_that_are_spawned_get_a_predictor(tmp_path: Path) -> None:
    predictor = birefnet.load("nano", engine="torch")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(mattes_there, (predictor,))
    assert there == pytest.approx(mattes_there(predictor), abs=1e-4)


@pytest.mark.parametrize("send", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_keeps_what_was_set(
    send: Callable[[birefnet.Predictor], birefnet.Predictor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file("mine.safetensors", build_network("tiny"), layout="safetensors")
    predictor = birefnet.load("mine.safetensors", engine="torch", dtype="bf16")
    predictor.limits, predictor.convert_to_srgb = Limits(max_pixels=10_000), False
    data = send(predictor)
    assert vars(data.limits) == vars(predictor.limits)
    assert data.convert_to_srgb is False
    assert data.engine.name == predictor.engine.name
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    other, own = (each.predict(disc()).alpha for each in (send(predictor), predictor))
    assert np.abs(other - own).max() < 1e-2
    assert copy.copy(predictor).engine is predictor.engine


@pytest.mark.parametrize("send", [copy.deepcopy, pickle.dumps])
def test_a_network_in_memory_is_not_sent(send: Callable[[birefnet.Predictor], object]) -> None:
    with pytest.raises(BiRefNetError, match="network in memory, so it cannot be pickled"):
        send(birefnet.Predictor(BrightEngine()))
