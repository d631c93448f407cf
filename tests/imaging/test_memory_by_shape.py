"""Memory follows the number of pixels, whatever the picture's shape: every step, by measured peaks.

A narrow picture is small as a file, and a window, a half-resized plane or a background that is
scaled to its longer side can be a thousand times as large as the picture itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

pytestmark = pytest.mark.skipif(not CLEAR.exists(), reason="peaks are read from Linux' /proc")

BYTES_A_PIXEL = 200
"""What `docs/serve.md` states for everything but the network, and what the server reckons with."""

FIXED = 12 * 2**20  # bytes of libraries, threads and the network's input, however small the picture

PIXELS = 160_000
SHAPES = ((400, 400), *((short, PIXELS // short) for short in (1, 2, 17)))

CASES: dict[str, dict[str, Any]] = {
    "cutout": {},
    "mask": {"kind": "mask"},
    "trimap": {"kind": "trimap"},
    "blur": {"kind": "blur"},
    "overlay": {"kind": "overlay"},
    "colour": {"background": "navy"},
    "picture": {"background": np.full((90, 130, 3), 77, np.uint8)},
    "wide blur": {"mask_blur": 64},
    "wider": {"mask_offset": 64},
    "narrower": {"mask_offset": -64},
    "threshold": {"threshold": 0.5},
    "matting": {"matting": "guided"},
    "wide matting": {"matting": "guided", "band": 128},
    "objects": {"objects": True},
    "crop": {"crop": True, "crop_margin": 8},
    "drop shadow": {"shadow": "drop"},
    "ground shadow": {"shadow": "ground"},
    "long shadow": {"shadow": "ground", "shadow_length": 3, "shadow_blur": 10, "crop": True},
    "mask prompt": {"guide": np.pad(np.full((20, 30), 255, np.uint8), 9)},
    "box": {"boxes": ("0.1,0.1,0.9,0.9",)},
    "point": {"points": ("0.5,0.5",)},
    "second pass": {"passes": 2},
    "16 bits": {},
}


def picture(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    """A bright middle with a soft edge on a dark ground."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    bright = np.clip(1.6 - 2 * np.maximum(abs(x), abs(y)), 0, 1)
    return (bright[..., None].repeat(3, axis=2) * np.iinfo(dtype).max).astype(dtype)


def peak_of(case: str, height: int, width: int) -> int:
    """Bytes that a picture of this shape needs beyond what the process has already."""
    from birefnet.imaging.io import encode
    from birefnet.inference.predictor import Predictor
    from birefnet.options import Options
    from fakes import PLAIN, BrightEngine

    predictor = Predictor(BrightEngine(), PLAIN)

    def work(pixels: np.ndarray) -> None:
        options = Options(**CASES[case]).prepared()
        matte = options.finish(options.predict(predictor, encode(pixels, format="png")))
        for part in options.parts(matte) if options.objects else ():
            options.encode(part.matte, "png")
        if not options.objects:
            options.encode(matte, "png")

    dtype = np.uint16 if case == "16 bits" else np.uint8
    work(picture(64, 64, dtype))  # libraries are loaded
    pixels = picture(height, width, dtype)
    CLEAR.write_text("5", encoding="utf-8")
    before = _highest()
    work(pixels)
    return _highest() - before


def _highest() -> int:
    line = next(
        line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def peaks() -> dict[str, dict[str, int]]:
    """By case and shape, from a process of its own, whose allocator gives everything back."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_shape_costs_what_its_pixels_cost(case: str, peaks: dict[str, Any]) -> None:
    for shape, peak in peaks[case].items():
        assert peak <= FIXED + BYTES_A_PIXEL * PIXELS, (case, shape, peak / PIXELS)


def _measure() -> dict[str, dict[str, int]]:
    shapes = [*SHAPES, *((width, height) for height, width in SHAPES[1:])]
    return {
        case: {f"{height}x{width}": peak_of(case, height, width) for height, width in shapes}
        for case in CASES
    }


if __name__ == "__main__":
    print(json.dumps(_measure()))
