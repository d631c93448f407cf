"""`birefnet doctor`: says what is there, and fails when something is broken."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from birefnet.cli.doctor import checks
from birefnet.inference import load
from birefnet.weights.locate import bundled_names

needs_bundled = pytest.mark.skipif("nano" not in bundled_names(), reason="no bundled model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("BIREFNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    monkeypatch.delenv("BIREFNET_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def some_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birefnet.weights.locate.bundled_names", lambda: ["nano"])


@needs_bundled
def test_all_is_well(command) -> None:
    result = command("doctor")
    assert result.status == 0, result.stdout
    text = result.stdout.decode()
    for expected in ("torch", "cpu", "auto", "bundled", "nano", "cut-out", "All is well."):
        assert expected in text


def test_json(command, some_bundled: None) -> None:
    result = command("doctor", "--json", "--no-self-test")
    report = json.loads(result.stdout)
    assert (result.status, report["healthy"]) == (0, True)
    assert report["Versions"]["numpy"]["detail"]
    assert report["Devices"]["cpu"]["ok"] is not False
    if find_spec("torch"):
        assert "fp32" in report["Devices"]["cpu"]["detail"]
    else:
        assert 'pip install "birefnet[torch]"' in report["Engines"]["torch"]["detail"]
    assert "Self-test" not in report


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        (None, "Triton's"),
        (
            "could not be used on cuda:0 in float16 (RuntimeError: Failed to find C compiler)",
            "PyTorch's: Triton's could not be used on cuda:0 in float16 "
            "(RuntimeError: Failed to find C compiler)",
        ),
    ],
)
def test_the_kernels_of_a_card_are_said(
    monkeypatch: pytest.MonkeyPatch, problem: str | None, detail: str
) -> None:
    torch = pytest.importorskip("torch")
    from birefnet.inference.engines import devices
    from birefnet.network.deform import choice

    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cpu"])
    monkeypatch.setattr(devices, "supports", lambda device, dtype: True)
    monkeypatch.setattr(devices, "resolve_dtype", lambda dtype, device: torch.float16)
    monkeypatch.setattr(choice, "why_not_triton", lambda device, dtype: problem)
    monkeypatch.setattr(checks, "_describe", str)
    found = {finding.name: finding for finding in checks.devices()}
    assert found["cuda:0"].detail == "cuda:0; fp32, fp16, bf16"
    assert found["cuda:0 kernels"].detail == detail
    assert found["cuda:0 kernels"].ok is None


def test_a_driver_that_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(load, "has_nvidia_driver", lambda: True)
    found = {finding.name: finding.detail for finding in checks.devices()}
    assert found["cuda"] == "an NVIDIA driver is here, but torch is a build without CUDA"


def test_cached_weights_are_listed(command, cache: Path, some_bundled: None) -> None:
    (cache / "general").mkdir(parents=True)
    (cache / "general" / "model.safetensors").write_bytes(bytes(3 * 2**20))
    (cache / "general" / "note.txt").touch()
    weights = json.loads(command("doctor", "--json", "--no-self-test").stdout)["Weights"]
    assert weights["general/model.safetensors"]["detail"] == "3.0 MiB"
    assert not any("note" in name for name in weights)


def test_looking_writes_nothing(command, cache: Path, some_bundled: None) -> None:
    command("doctor", "--no-self-test")
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_broken(command, cache: Path, some_bundled: None) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    result = command("doctor", "--no-self-test")
    assert result.status == 1
    assert "is not a folder" in result.stdout.decode()
    assert "Something is broken" in result.stdout.decode()


def test_missing_package_is_broken(
    command, some_bundled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PACKAGES", ("torch", "no-such-package"))
    result = command("doctor", "--json", "--no-self-test")
    assert result.status == 1
    assert json.loads(result.stdout)["Versions"]["no-such-package"]["ok"] is False


def test_a_failing_self_test_is_one_sentence(
    command, some_bundled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr("birefnet.api.load", load)
    result = command("doctor")
    assert result.status == 1
    assert "the disk is gone" in result.stdout.decode()
    assert "Traceback" not in result.stdout.decode() + result.stderr


def test_offline_is_said(command, some_bundled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    assert "switched off" in command("doctor", "--no-self-test").stdout.decode()


PLAIN, GPU = "onnxruntime", "onnxruntime-gpu"


@pytest.mark.parametrize(
    ("installed", "in_place", "version", "others", "ok", "said"),
    [
        ((PLAIN,), PLAIN, "1.31.1", False, True, "1.31.1, "),
        ((GPU,), GPU, "1.31.1", False, True, "1.31.1, "),
        ((PLAIN, GPU, GPU), GPU, "1.30.0", False, True, f"{PLAIN} and {GPU} share a folder, {GPU}"),
        (
            (PLAIN, GPU),
            PLAIN,
            "1.31.1",
            True,
            False,
            f"in place: pip install -U --force-reinstall --no-deps {GPU}",
        ),
        ((PLAIN,), PLAIN, "1.23.2", False, False, 'on a Mac with Intel, pip install "birefnet[op'),
        ((PLAIN,), PLAIN, "1.23.2", True, None, "no deformable convolution, 1.25 has"),
        ((PLAIN, GPU), GPU, "1.24.4", True, None, f"{GPU} is in place; it has no deformable"),
        ((), PLAIN, "1.31.1", False, False, "missing: pip install onnxruntime, or"),
        ((), PLAIN, "1.31.1", True, None, "missing"),
    ],
)
def test_builds_of_onnxruntime(
    installed: tuple[str, ...],
    in_place: str,
    version: str,
    others: bool,
    ok: bool | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All install into one folder: which is there, whether that was meant, whether it is old."""
    import onnxruntime
    from onnxruntime.capi import build_and_package_info

    known = {"onnxruntime": list(installed)} if installed else {}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: known)
    monkeypatch.setattr(checks, "find_spec", lambda name: others or None)
    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr(build_and_package_info, "package_name", in_place)
    finding = checks.onnxruntime()
    assert (finding.name, finding.ok) == ("onnxruntime", ok)
    assert said in finding.detail


def test_the_engine_of_auto_is_said_with_its_reason(command, some_bundled: None) -> None:
    engines = json.loads(command("doctor", "--json", "--no-self-test").stdout)["Engines"]
    assert re.fullmatch(r"(torch|openvino|onnx) for nano: \w.+", engines["auto"]["detail"])
