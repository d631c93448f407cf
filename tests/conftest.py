"""Shared by all tests: where the reference numbers are, and one thread per test process."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

HAS_TORCH = find_spec("torch") is not None

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start background jobs with Ctrl-C ignored, and children inherit that; tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


TESTS = Path(__file__).parent
CORE = {TESTS / line for line in (TESTS / "core.txt").read_text().splitlines() if line[:1] != "#"}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without PyTorch, leave out all tests but those of `core.txt`."""
    is_wanted = any(path.is_relative_to(collection_path) for path in CORE)
    is_inside = collection_path.is_relative_to(TESTS)
    return True if not HAS_TORCH and is_inside and not is_wanted else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and collected tests stay to the end, so that the garbage collector need not go
    through them: a collection would take a second, and each server of the tests asks for one."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a card where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


_GROWTH = 100 << 20  # bytes
_after_cleaning = 0


def pytest_runtest_logfinish() -> None:
    """Where tests have grown the process, give back what networks in cycles hold, and what the C
    library keeps of freed memory."""
    global _after_cleaning
    if _resident_bytes() > _after_cleaning + _GROWTH:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim is not None:
            trim(0)
        _after_cleaning = _resident_bytes()


def _resident_bytes() -> int:
    """Memory of this process; 0 elsewhere than under Linux, where nothing is done about it."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the expected numbers."""
    return Path(__file__).parent / "reference"


@pytest.fixture(scope="session", autouse=True)
def no_traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What loading keeps for the next time goes to a folder of the tests, not the user's."""
    before = os.environ.get("BIREFNET_CACHE")
    os.environ["BIREFNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["BIREFNET_CACHE"]
    else:
        os.environ["BIREFNET_CACHE"] = before


@pytest.fixture(autouse=True)
def any_order_of_sums() -> Iterator[None]:
    """A test that trains deterministically leaves torch to the others as it was."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Caches in the test's folder, and none of the caller's settings, mirrors or proxies."""
    for name in list(os.environ):
        if name.startswith(("BIREFNET_", "HF_", "HUGGINGFACE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BIREFNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
