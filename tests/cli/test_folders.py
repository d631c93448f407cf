"""Folders of any size: the manifest, reruns, retries, watching, URLs, kills and memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet import Predictor
from birefnet.cli.remove.manifest import Manifest, key_of
from birefnet.cli.remove.watch import Watch
from birefnet.imaging.io import decode
from fakes import PLAIN, BrightEngine, write_disc

pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Five pictures in two folders."""
    for name in ("a.png", "b.png", "deep/a.png", "deep/c.jpg", "deep/c.png"):
        write_disc(tmp_path / "shop" / name)
    return tmp_path / "shop"


def lines(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def test_the_manifest_says_what_became_of_each(command, shop: Path, tmp_path: Path) -> None:
    (shop / "broken.png").write_bytes(b"\x89PNG no more")
    result = command("remove", shop, "-o", tmp_path / "out")
    assert result.status == 1
    entries = {
        Path(entry["input"]).relative_to(shop): entry for entry in lines(manifest_of(tmp_path))
    }
    assert len(entries) == 6
    done = entries[Path("deep/c.jpg")]
    assert done["output"] == str(tmp_path / "out/deep/c.jpg.png")
    assert done["status"] == "done"
    assert 0.1 < done["coverage"] < 0.4
    assert (done["width"], done["height"], done["is_empty"]) == (64, 48, False)
    assert done["seconds"] >= 0
    assert done["finished"].endswith("+00:00")
    broken = entries[Path("broken.png")]
    assert (broken["status"], broken["output"]) == ("failed", None)
    assert "is not a picture that can be read" in broken["error"]


def manifest_of(tmp_path: Path) -> Path:
    return tmp_path / "out" / "manifest.jsonl"


def test_a_rerun_does_only_what_is_left(
    command, shop: Path, tmp_path: Path, bright: BrightEngine
) -> None:
    def run(*options: object) -> int:
        before = len(bright.batches)
        result = command("remove", shop, "-o", tmp_path / "out", *options)
        assert result.status == 0, result.stderr
        return len(bright.batches) - before

    assert run() == 5
    assert run() == 0
    write_disc(shop / "new.png")  # one that came
    assert run() == 1
    write_disc(shop / "a.png", height=50)  # one that changed
    assert run() == 1
    (tmp_path / "out" / "b.png").unlink()  # a result that was lost
    assert run() == 1
    (tmp_path / "out" / "deep" / "a.png").write_bytes(b"")  # one that a crash left empty
    assert run() == 1
    assert run("--type", "mask") == 6  # another wish
    assert run("--type", "mask") == 0
    assert run("--type", "mask", "--overwrite") == 6
    assert run("--skip-existing") == 0  # whatever the manifest says
    (tmp_path / "out" / "b.png").write_bytes(b"")
    assert run("--skip-existing") == 1
    manifest_of(tmp_path).unlink()
    assert run() == 6


@pytest.mark.parametrize("form", ["relative", "inside", "link", "slash"])
def test_a_rerun_knows_the_folders_by_other_names(
    form: str,
    command,
    shop: Path,
    tmp_path: Path,
    bright: BrightEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert command("remove", shop, "-o", tmp_path / "out").status == 0
    before = len(bright.batches)
    monkeypatch.chdir(shop if form == "inside" else tmp_path)
    (tmp_path / "link").symlink_to("out")
    inputs, output = {
        "relative": (shop.name, "out"),
        "inside": (".", "../out"),
        "link": (shop, "link"),
        "slash": (f"{shop}/", "./out/"),
    }[form]
    assert command("remove", inputs, "-o", output).status == 0
    assert len(bright.batches) == before


def test_a_failure_is_tried_again_by_the_next_run(command, shop: Path, tmp_path: Path) -> None:
    (shop / "late.png").write_bytes(b"")
    assert command("remove", shop, "-o", tmp_path / "out").status == 1
    write_disc(shop / "late.png")
    result = command("remove", shop, "-o", tmp_path / "out")
    assert result.status == 0
    assert result.stderr.startswith("1 picture cut out, 5 skipped")


def test_where_the_manifest_goes(command, shop: Path, tmp_path: Path) -> None:
    assert command("remove", shop / "a.png", "-o", tmp_path / "one/").status == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.png"]
    assert command("remove", shop, "-o", tmp_path / "none", "--manifest", "").status == 0
    assert not (tmp_path / "none" / "manifest.jsonl").exists()
    assert command("remove", shop, "--manifest", tmp_path / "log" / "m.jsonl").status == 0
    assert len(lines(tmp_path / "log" / "m.jsonl")) == 5
    result = command("remove", shop, "--manifest", shop / "a.png" / "m.jsonl")
    assert (result.status, "cannot be written" in result.stderr) == (1, True)


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first, second, third = key_of("1"), key_of("2"), key_of("3")
    manifest = Manifest(path)
    manifest.add(first, {"status": "done", "input": "\udcff odd name"})
    manifest.add(second, {"status": "failed"})
    manifest.close()
    with path.open("ab") as file:
        file.write(b'{"status": "done", "key": "00')  # killed here
    manifest = Manifest(path)
    assert (manifest.has(first), manifest.has(second)) == (True, False)
    manifest.add(second, {"status": "done"})
    manifest.add(first, {"status": "failed"})
    manifest.close()
    manifest = Manifest(path)
    assert (manifest.has(first), manifest.has(second), manifest.has(third)) == (False, True, False)
    manifest.close()


def test_what_may_pass_is_tried_again(
    command, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birefnet.cli.remove import worker

    waits: list[float] = []
    monkeypatch.setattr(worker.time, "sleep", waits.append)
    failures = {"b.png": 2, "a.png": 9}
    write = worker.write

    def flaky(place: Path, data: bytes) -> None:
        if place.parent.name == "out" and failures.get(place.name, 0):
            failures[place.name] -= 1
            raise OSError(errno.EIO, "the drive does not answer")
        write(place, data)

    monkeypatch.setattr(worker, "write", flaky)
    result = command("remove", shop, "-o", tmp_path / "out", "--json")
    report = json.loads(result.stdout)
    assert (report["done"], report["failed"], waits) == (4, 1, [1.0, 2.0])
    assert "the drive does not answer" in result.stderr
    assert [e["status"] for e in lines(manifest_of(tmp_path))].count("failed") == 1
    assert failures == {"b.png": 0, "a.png": 6}
    assert command("remove", shop, "-o", tmp_path / "out", "--retries", 0).status == 1


def test_a_picture_that_is_none_is_not_tried_again(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birefnet.cli.remove import worker

    monkeypatch.setattr(worker.time, "sleep", lambda seconds: pytest.fail("waited"))
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    assert command("remove", tmp_path / "cut.jpg", "-o", tmp_path / "no.png").status == 1
    assert command("remove", tmp_path / "cut.jpg", "-o", "/proc/no/such.png").status == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the super user may read every folder")
def test_a_closed_folder_is_said(command, shop: Path, tmp_path: Path) -> None:
    (shop / "deep").chmod(0)
    try:
        result = command("remove", shop, "-o", tmp_path / "out")
    finally:
        (shop / "deep").chmod(0o755)
    assert (result.status, "deep cannot be searched" in result.stderr) == (1, True)


def test_a_file_is_ready_when_it_stands_still(tmp_path: Path) -> None:
    from birefnet.cli.remove.search import Search

    watch = Watch(Search((str(tmp_path),), str(tmp_path / "out")), settled=0.05)

    def ready() -> list[str]:
        time.sleep(0.06)
        return [job.name.rsplit("/", 1)[-1] for job in watch.ready()]

    copied = tmp_path / "copied.png"
    assert ready() == []
    copied.write_bytes(b"the first half")
    assert ready() == []
    copied.write_bytes(b"the first half and some more")
    assert ready() == []  # it has just changed
    write_disc(tmp_path / "deep" / "other.png")
    assert ready() == ["copied.png"]
    assert ready() == ["other.png"]
    assert ready() == []
    write_disc(copied)
    assert [ready(), ready()] == [[], ["copied.png"]]
    copied.unlink()
    assert ready() == []


def test_watching_goes_on_until_interrupted(
    command, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birefnet.cli.remove import watch

    monkeypatch.setattr(watch, "PAUSE", 0.02)
    monkeypatch.setattr(Watch.__init__, "__defaults__", (0.05,))
    out = tmp_path / "out"

    def work() -> None:
        wait_for(out / "deep/c.jpg.png")
        write_disc(shop / "new" / "late.png")
        wait_for(out / "new/late.png")
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=work)
    helper.start()
    result = command("remove", shop, "-o", out, "--watch")
    helper.join()
    assert result.status == 0
    assert result.stderr.startswith("watching ")
    assert f"{out / 'new/late.png'}\n" in result.stderr
    assert "6 pictures cut out in " in result.stderr


def test_interrupted_before_the_first_picture_is_not_called_an_empty_folder(
    command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birefnet.cli.remove import worker

    monkeypatch.setattr(worker.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGINT))
    result = command("remove", shop, "--watch")
    assert result.status == 0
    assert result.stderr.splitlines()[1:] == ["no picture was cut out"]


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_watching_needs_a_folder(command, shop: Path) -> None:
    result = command("remove", shop / "a.png", "--watch")
    assert (result.status, "--watch waits for pictures in folders" in result.stderr) == (2, True)


@pytest.fixture
def bucket() -> str:
    pytest.importorskip("upath")
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    return "memory://bucket"


def test_urls_in_and_out(command, shop: Path, tmp_path: Path, bucket: str) -> None:
    from upath import UPath

    for path in shop.rglob("*.*"):
        place = UPath(bucket) / "in" / path.relative_to(shop).as_posix()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    result = command("remove", f"{bucket}/in", "-o", f"{bucket}/out")
    assert result.status == 0, result.stderr
    made = sorted(str(p) for p in UPath(f"{bucket}/out").rglob("*") if p.is_file())
    wanted = ["a.png", "b.png", "deep/a.png", "deep/c.jpg.png", "deep/c.png.png"]
    assert made == [f"{bucket}/out/{name}" for name in wanted]
    assert decode((UPath(made[0])).read_bytes()).alpha is not None
    result = command("remove", f"{bucket}/in", "-o", f"{bucket}/out", "--skip-existing")
    assert result.stderr.startswith("0 pictures cut out, 5 skipped")
    UPath(made[0]).write_bytes(b"")
    result = command("remove", f"{bucket}/in", "-o", f"{bucket}/out", "--skip-existing")
    assert result.stderr.startswith("1 picture cut out, 4 skipped")
    # From there to here, by a pattern, with a manifest.
    for expected in ("2 pictures cut out in", "0 pictures cut out, 2 skipped"):
        result = command("remove", f"{bucket}/in/*.png", "-o", tmp_path / "out")
        assert result.stderr.startswith(expected)
    result = command("remove", f"{bucket}/nothing.png")
    assert (result.status, "there is no file or folder" in result.stderr) == (2, True)


def test_urls_need_their_extra(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    result = command("remove", "s3://bucket/a.png")
    assert result.status == 1
    assert 'pip install "birefnet[urls]"' in result.stderr


def test_an_address_that_fails_is_a_failure_of_that_picture(
    command, shop: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upath import UPath

    from birefnet.cli.remove import worker

    monkeypatch.setattr(worker.time, "sleep", lambda seconds: None)
    place = UPath(f"{bucket}/a.png")
    place.write_bytes((shop / "a.png").read_bytes())
    monkeypatch.setattr(type(place), "open", _no_answer)
    result = command("remove", shop / "b.png", f"{bucket}/a.png", "-o", tmp_path / "out")
    assert result.status == 1
    assert "memory://bucket/a.png cannot be fetched: no answer" in result.stderr
    assert (tmp_path / "out" / "b.png").exists()


def _no_answer(*args: object, **options: object) -> None:
    raise TimeoutError("no answer")


PROGRAM = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, {tests!r})
    import birefnet.api
    from birefnet import Predictor
    from birefnet.cli.main import main
    from fakes import PLAIN, BrightEngine

    class Slow(BrightEngine):
        def infer(self, batch):
            time.sleep({pause})
            return super().infer(batch)

    birefnet.api.load = lambda *a, **k: Predictor(Slow(), PLAIN, name="fake")
    main()
""")


def program(*arguments: object, pause: float = 0.02) -> subprocess.Popen[bytes]:
    code = PROGRAM.format(tests=str(Path(__file__).parent.parent), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=-1)


def test_a_kill_loses_nothing_finished(tmp_path: Path) -> None:
    for index in range(60):
        write_disc(tmp_path / "in" / f"{index:02}.png")
    out, finished = tmp_path / "out", 0
    for _ in range(2):
        process = program("remove", tmp_path / "in", "-o", out)
        wait_for(out / f"{finished + 8:02}.png")
        process.kill()
        process.communicate()
        entries = [e for e in lines_that_parse(manifest_of(tmp_path)) if e["status"] == "done"]
        made = [path for path in out.iterdir() if path.suffix == ".png"]
        assert len(entries) >= len(made) - 2  # written, its line not yet
        assert len(entries) >= finished + 6
        for path in made:
            decode(path)  # whole
        finished = len(entries)
    process = program("remove", tmp_path / "in", "-o", out, pause=0)
    _, said = process.communicate()
    assert process.returncode == 0
    assert f"{60 - finished} pictures cut out, {finished} skipped" in said.decode()
    left = [path for path in out.iterdir() if path.suffix not in (".png", ".jsonl")]
    assert all(path.name.endswith(".tmp") and path.name.startswith(".") for path in left)
    assert len(left) <= 4


def lines_that_parse(manifest: Path) -> list[dict[str, Any]]:
    whole = manifest.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in whole if line.endswith("}")]


def test_a_polite_kill_ends_like_an_interruption(tmp_path: Path) -> None:
    for index in range(60):
        write_disc(tmp_path / "in" / f"{index:02}.png")
    process = program("remove", tmp_path / "in", "-o", tmp_path / "out")
    wait_for(tmp_path / "out" / "05.png")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert "of 60 done; the same command goes on from here" in said.decode()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    """Peak resident memory of 600 pictures against 100 (10,000: benchmarks/folder.py)."""
    first = write_disc(tmp_path / "small" / "0.png")
    peaks = []
    for name, count in (("small", 100), ("large", 600)):
        folder = tmp_path / name
        for sub in range(count // 100):
            (folder / str(sub)).mkdir(parents=True, exist_ok=True)
            for index in range(100):
                os.link(first, folder / str(sub) / f"{index}.png")
        process = program("remove", folder, "-o", tmp_path / f"{name}-out", pause=0)
        peak = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            peak = max(peak, *map(int, found), 0)
            time.sleep(0.02)
        process.communicate()
        assert process.returncode == 0
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 4 * 1024  # kB


def test_threads_are_as_many_as_asked(command, shop: Path, tmp_path: Path, monkeypatch) -> None:
    made: list[Predictor] = []

    def load(*arguments: object, **options: object) -> Predictor:
        made.append(Predictor(BrightEngine(), PLAIN))
        return made[-1]

    monkeypatch.setattr("birefnet.api.load", load)
    assert command("remove", shop, "-o", tmp_path / "out", "--jobs", 3).status == 0
    assert made[0].readers == 3
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == (48, 64, 4)
