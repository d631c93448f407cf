"""Work goes on where it stopped, whatever stopped it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import birefnet
from birefnet.video import UnfinishedRunError, VideoError, process_video
from birefnet.video.segments import Workplace
from video.clips import fake_predictor, read_film, write_clip

SLOW_RUN = """if True:
    import json, sys, time
    clip, out, options, *paths = sys.argv[1:]
    sys.path[:0] = paths
    import birefnet.video.pipeline as pipeline
    from video.clips import fake_predictor
    pipeline.SEGMENT_FRAMES = 4
    def slowly(progress):
        time.sleep(0.02 if progress.frames < 10 else 60)
    from birefnet.video import process_video
    process_video(
        clip, out, predictor=fake_predictor(), progress=slowly, **json.loads(options)
    )
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=20, sound="aac")


def killed_run(clip: Path, out: Path, options: dict[str, Any]) -> None:
    """A run in another process that is killed (-9) in its third segment."""
    paths = [str(Path(__file__).parents[1]), str(Path(birefnet.__file__).parents[1])]
    arguments = [str(clip), str(out), json.dumps(options), *paths]
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, *arguments])
    try:
        record = out.with_name(f"{out.name}.parts") / "000001.json"
        limit = time.monotonic() + 120
        while not record.exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
@pytest.mark.parametrize(
    ("suffix", "kind"), [(".mov", {}), (".mp4", {"background": "white"}), (".gif", {})]
)
def test_resume_after_kill(
    clip: Path,
    tmp_path: Path,
    suffix: str,
    kind: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result equals that of a run that nothing stopped, stabilised mattes included."""
    out, whole = tmp_path / f"out{suffix}", tmp_path / f"whole{suffix}"
    options = {"stabilise": True, **kind}
    killed_run(clip, out, options)
    parts = tmp_path / f"{out.name}.parts"
    assert not out.exists()
    if suffix != ".gif":
        assert len(read_film(parts / f"000000{suffix}").pixels) == 4  # it plays by itself
    monkeypatch.setattr("birefnet.video.pipeline.SEGMENT_FRAMES", 4)
    predictor: Any = fake_predictor()
    result = process_video(clip, out, predictor=predictor, resume=True, **options)
    assert result.frames == 20
    assert result.resumed >= 8
    assert len(predictor.engine.batches) == 20 - result.resumed + 2  # two neighbours come again
    assert not parts.exists()
    process_video(clip, whole, predictor=fake_predictor(), **options)
    if suffix == ".gif":
        assert out.read_bytes() == whole.read_bytes()
        return
    ours, theirs = read_film(out), read_film(whole)
    assert (ours.times, ours.sound) == (theirs.times, theirs.sound)
    assert all(map(np.array_equal, ours.pixels, theirs.pixels))


def test_what_may_be_resumed(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, parts = tmp_path / "out.webm", tmp_path / "out.webm.parts"

    def interrupted(at: int) -> None:
        def stop(progress: birefnet.video.Progress) -> None:
            if progress.frames == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            process_video(clip, out, predictor=fake_predictor(), progress=stop)

    interrupted(1)
    assert not parts.exists()  # nothing was finished, so nothing stands in the way
    with monkeypatch.context() as patch:
        patch.setattr("birefnet.video.pipeline.SEGMENT_FRAMES", 2)
        interrupted(12)
    with pytest.raises(UnfinishedRunError, match=r"an earlier run has left \d+ frames in"):
        process_video(clip, out, predictor=fake_predictor())
    with pytest.raises(UnfinishedRunError, match="begun with another quality"):
        process_video(clip, out, predictor=fake_predictor(), quality="low", resume=True)
    result = process_video(clip, out, predictor=fake_predictor(), quality="low", resume=False)
    assert (result.frames, result.resumed) == (20, 0)
    assert not parts.exists()


def test_a_folder_that_is_not_ours(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mov.parts").mkdir()
    (tmp_path / "out.mov.parts" / "thesis.txt").write_text("all I have")
    with pytest.raises(VideoError, match="holds something else; move it away"):
        process_video(clip, tmp_path / "out.mov", predictor=fake_predictor(), resume=False)
    assert (tmp_path / "out.mov.parts" / "thesis.txt").exists()


def test_an_empty_part_is_made_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / "out.webm", tmp_path / "out.webm.parts"
    monkeypatch.setattr("birefnet.video.pipeline.SEGMENT_FRAMES", 2)

    def stop(progress: birefnet.video.Progress) -> None:
        if progress.frames == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_video(clip, out, predictor=fake_predictor(), progress=stop)
    (parts / "000001.webm").write_bytes(b"")  # as a crash may leave it
    result = process_video(clip, out, predictor=fake_predictor(), resume=True)
    assert (result.frames, result.resumed) == (20, 2)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    place = Workplace(tmp_path / "out.mp4", {}, resume=None)
    with pytest.raises(VideoError, match="another process is writing"):
        Workplace(tmp_path / "out.mp4", {}, resume=None)
    place.release()
    Workplace(tmp_path / "out.mp4", {}, resume=None).remove()
    assert not (tmp_path / "out.mp4.parts").exists()
