"""Triton's kernels give PyTorch's numbers; where they cannot, PyTorch computes and says so once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import birefnet
from birefnet.network.deform import choice, portable

WORKER = Path(__file__).with_name("triton_worker.py")


@pytest.fixture(scope="module")
def found() -> dict[str, list[float]]:
    pytest.importorskip("triton")
    path = os.pathsep.join([str(Path(birefnet.__file__).parents[1]), *sys.path])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, WORKER], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["fills no tile", "1x1 without mask", "several tiles", "7x7"])
def test_equals_pytorch_in_float32(found: dict[str, list[float]], name: str) -> None:
    assert len(found[name]) == 5
    assert max(found[name]) < 1e-5


def test_float16_differs_by_rounding(found: dict[str, list[float]]) -> None:
    assert max(found["float16"]) < 2e-3


def test_positions_that_are_no_numbers_stay_where_they_are(found: dict[str, list[float]]) -> None:
    assert found["damaged"] == [True, True]


def test_operators_keep_what_they_promise_with_these_kernels(found: dict[str, object]) -> None:
    assert found["opcheck"] == []


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9"
)
def test_the_precision_of_float32_is_read_where_it_is_set(found: dict[str, object]) -> None:
    assert found["precision"] == ["ieee", "tf32", "ieee", "tf32", "tf32"]


def test_the_check_before_use_passes(found: dict[str, float]) -> None:
    assert found["self-check"] < 1e-5


@pytest.fixture
def fresh() -> None:
    for cached in (choice._trusted_triton, choice._warn_once):
        cached.cache_clear()
    yield
    for cached in (choice._trusted_triton, choice._warn_once):
        cached.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setattr(choice.importlib, "import_module", lambda name: module)


def trusted(*, derivative: bool = False) -> object:
    """What is chosen for a card that is a CPU in truth."""
    module, problem = choice._trusted_triton(torch.device("cpu"), torch.float32, derivative)
    if problem:
        choice._warn_once(problem)
    return module


@pytest.mark.usefixtures("fresh")
def test_kernels_that_agree_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, portable)
    assert trusted() is portable
    assert trusted(derivative=True) is portable
    assert choice.why_not_triton(torch.device("cpu"), torch.float32) is None


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_wrong_numbers_are_never_used(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    module = SimpleNamespace(
        forward=lambda *a: wrong * portable.forward(*a), backward=portable.backward
    )
    use(monkeypatch, module)
    with pytest.warns(RuntimeWarning, match="of the largest value"):
        assert trusted() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trusted() is None  # said once


@pytest.mark.usefixtures("fresh")
def test_kernels_that_fail_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no compiler")

    use(monkeypatch, SimpleNamespace(forward=fail, backward=fail))
    with pytest.warns(RuntimeWarning, match="could not be used.*no compiler"):
        assert trusted() is None
    reason = choice.why_not_triton(torch.device("cpu"), torch.float32)
    assert reason == "could not be used on cpu in float32 (RuntimeError: no compiler)"
    monkeypatch.setenv("BIREFNET_DEFORM", "torch")
    wish = choice.why_not_triton(torch.device("cpu"), torch.float32)
    assert wish == "BIREFNET_DEFORM=torch"


@pytest.mark.usefixtures("fresh")
def test_a_derivative_that_fails_spares_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no atomics")

    use(monkeypatch, SimpleNamespace(forward=portable.forward, backward=fail))
    assert trusted() is not None
    with pytest.warns(RuntimeWarning, match="no atomics"):
        assert trusted(derivative=True) is None


def test_choice_by_device_type_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_trusted_triton", lambda *_: ("triton", None))

    def on_cuda(dtype: torch.dtype, offset: torch.dtype = torch.float32) -> object:
        x = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=dtype)
        offset_map = SimpleNamespace(device=x.device, dtype=offset)
        return choice.for_forward(x, offset_map)  # type: ignore[arg-type]

    assert on_cuda(torch.float16) == "triton"
    assert on_cuda(torch.float64, torch.float64) is portable
    monkeypatch.setenv("BIREFNET_DEFORM", "torch")
    assert on_cuda(torch.float16) is portable
    on_cpu = torch.zeros(1)
    assert choice.for_forward(on_cpu, on_cpu) is portable


def test_deterministic_training_adds_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_trusted_triton", lambda *_: ("triton", None))
    monkeypatch.delenv("BIREFNET_DEFORM", raising=False)
    x = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.float32)
    assert choice.for_backward(x, x) == "triton"  # type: ignore[arg-type]
    torch.use_deterministic_algorithms(True)
    try:
        assert choice.for_backward(x, x) is portable  # type: ignore[arg-type]
    finally:
        torch.use_deterministic_algorithms(False)
