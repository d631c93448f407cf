"""The scripts in benchmarks/ run, tiny, and leave nothing where they are run or in the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import birefnet

ROOT = Path(birefnet.__file__).parents[2]
SCRIPTS = ROOT / "benchmarks"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="installed without its repository")

TINY = {
    "around": "--pictures 2 --rounds 1",
    "cold_start": "--rounds 1 --megapixels 0.05 --cores 1",
    "comfyui": "PICTURE --side 64 --rounds 1",
    "data": "--size 64 --pictures 2 --repeat 1",
    "deform": "--quick --rounds 1 --threads 1",
    "efficiency": "--side 64 --only nano",
    "engines": "tiny --size 64 --rounds 1 --threads 1 --kinds 'torch fp32,openvino int8'",
    "folder": "--pictures 3 --side 32 --seconds 0.1 --resolution 64",
    "int8": "nano --size 64 --rounds 1 --threads 1 --no-scores",
    "large": "--megapixels 0.05 --passes 1",
    "losses_compare": "CUTOUTS RESULTS --show",
    "network": "tiny --size 64 --rounds 1 --threads 1",
    "path": "--engine onnx",
    "serving": "--clients 2 --side 64 --seconds 0.2 --rounds 1 --requests 2",
    "shapes": "CUTOUTS BACKGROUNDS --pictures 1",
    "training": "tiny --size 64 --rounds 1 --batch-size 2 --threads 1 --cpu",
    "video": "--films 1 --frames 3 --height 64 --width 64",
}
"""Script to arguments; capitals stand for a picture, folders of pictures, and where results go."""
UNTRIED = {
    "browser": "takes minutes, in Chromium",
    "counts": "no script of its own",
    "evaluation": "needs PySODMetrics",
    "foreground": "has not run tiny yet",
    "gpu": "needs a GPU",
    "guidance": "has not run on drawn sets yet",
    "matting": "has not run on drawn sets yet",
    "misfits": "reads a data set and writes nothing",
    "held_out": "no script of its own",
}


def test_every_script_is_named() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(TINY) | set(UNTRIED)


def files() -> Iterator[str]:
    """All of the checkout that git does not ignore, as far as Python and the tools leave caches."""
    passed_over = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".venv"}
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in passed_over]
        for name in names:
            path = Path(folder, name)
            yield f"{path} {path.stat().st_mtime_ns}"


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_it_runs_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    for kind in ("cutouts", "backgrounds", "cwd", "cache"):
        (tmp_path / kind).mkdir()
    for number in range(5):  # of these, training leaves one out
        picture = Image.new("RGBA", (96, 96))
        ImageDraw.Draw(picture).ellipse((20, 20, 70, 70), fill=(200, 90, 40, 255))
        picture.save(tmp_path / "cutouts" / f"{number}.png")
        Image.new("RGB", (96, 96), (30, 60, 90)).save(tmp_path / "backgrounds" / f"{number}.jpg")
    meant = {
        "PICTURE": str(ROOT / "examples/coffee.jpg"),
        "CUTOUTS": str(tmp_path / "cutouts"),
        "BACKGROUNDS": str(tmp_path / "backgrounds"),
        "RESULTS": str(tmp_path / "results"),
    }
    words = [meant.get(word, word) for word in shlex.split(TINY[name])]
    before = set(files())
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *words],
        cwd=tmp_path / "cwd",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "BIREFNET_OFFLINE": "1",
            "BIREFNET_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode and "torchvision" in done.stderr:
        pytest.skip("needs a torchvision that fits this torch")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cwd").iterdir()) == []
    assert set(files()) == before
