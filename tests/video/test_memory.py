"""Memory does not grow with the length of a film."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")

import birefnet
from video.clips import moving_disc, write_clip

RUN = """if True:
    import sys
    clip, out, *paths = sys.argv[1:]
    sys.path[:0] = paths
    from birefnet.video import process_video
    from video.clips import fake_predictor

    def peak():
        for line in open("/proc/self/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1])

    peaks = {}

    def watch(progress):
        if progress.frames in (300, 1500):
            peaks[progress.frames] = peak()

    process_video(clip, out, predictor=fake_predictor(), stabilise=True, preset="fast",
                  kind="green", progress=watch)
    print(peaks[300], peaks[1500], peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_long_film(tmp_path: Path) -> None:
    """1500 frames of 320 x 240 (345 MB decoded): the peak is that of the first 300, and the join
    of the segments with the sound adds nothing to it."""
    clip = write_clip(
        tmp_path / "long.mp4",
        frames=1500,
        picture=lambda number: moving_disc(number % 200, width=320, height=240),
        options={"preset": "ultrafast", "crf": "30"},
        sound="aac",
    )
    paths = [str(Path(__file__).parents[1]), str(Path(birefnet.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(clip), str(tmp_path / "out.mp4"), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    early, late, end = map(int, done.stdout.split())
    assert late < early + 15_000  # KiB; 1200 frames more would be 276 MB
    assert end < early + 20_000
