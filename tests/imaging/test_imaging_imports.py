"""Importing the imaging part loads no torch, and its list of formats no library at all."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("io, geometry, foreground, compose, masks, box", {"torch"}),
        ("formats", {"torch", "cv2", "PIL", "numpy"}),
    ],
)
def test_imports(modules: str, absent: set[str]) -> None:
    code = f"import sys\nfrom birefnet.imaging import {modules}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(run.stdout.split())
