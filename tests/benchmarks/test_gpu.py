"""The GPU benchmark runs from end to end with tiny sizes, and its limit holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import birefnet

SOURCE = Path(birefnet.__file__).parents[1]
SCRIPT = SOURCE.parent / "benchmarks" / "gpu.py"
NETWORK_KEYS = {"milliseconds", "pictures_per_second", "difference", "network", "side", "batch"}


def run(output: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--output", output, *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text(encoding="utf-8"))


def test_every_case_runs(tmp_path: Path) -> None:
    """All but the tests themselves, which are these here."""
    found = run(tmp_path / "gpu.json", "--budget", "550", "--skip", "tests")
    assert found["finished"]
    cases = [row["case"] for row in found["cases"]]
    assert set(cases) == {"peak", "network", "step", "folder", "kernel", "profile", "command"}
    networks = [row for row in found["cases"] if row["case"] == "network"]
    assert {row["layout"] for row in networks} == {"official", "birefnet, eager"}
    assert networks[0].keys() >= NETWORK_KEYS
    assert max(row.get("difference", 0) for row in networks) < 1e-4
    losses = [row["loss"] for row in found["cases"] if row["case"] == "step"]
    assert abs(losses[0] - losses[1]) < 1e-3 * losses[0]
    command = found["cases"][cases.index("command")]
    assert command["status"] == 0, command["said"]
    assert command["written"] == command["pictures"]
    assert found["environment"]["deformable"]["forward"] == "portable"
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "| tiny | 64 | 2 | birefnet, eager |" in table
    assert "definition" in table or "torchvision" in table


def test_what_was_measured_before_the_limit_is_kept(tmp_path: Path) -> None:
    found = run(tmp_path / "gpu.json", "--budget", "6", "--only", "peak", "step")
    assert not found["finished"] or found["seconds"] < 6
