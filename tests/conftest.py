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
