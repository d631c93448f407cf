"""Shared by all tests: where the reference numbers are, and one thread per test process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the expected numbers."""
    return Path(__file__).parent / "reference"


@pytest.fixture
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Caches in the test's folder, and none of the caller's settings, mirrors or proxies."""
    for name in list(os.environ):
        if name.startswith(("BIREFNET_", "HF_", "HUGGINGFACE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BIREFNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
