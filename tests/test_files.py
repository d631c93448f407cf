"""Files where Windows and macOS differ; both are played on any system."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from birefnet import files
from birefnet.cli.remove.jobs import InputError
from birefnet.cli.remove.manifest import Manifest
from birefnet.cli.remove.search import Search
from birefnet.imaging.io import write_atomic
from birefnet.weights.transfer import discard
from fakes import write_disc

ROOT = Path(__file__).parents[1]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Windows, where waiting takes no time; what was waited [s]."""
    waited: list[float] = []
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    monkeypatch.setattr(files.time, "sleep", waited.append)
    return waited


def denied(times: int, action: Any) -> Any:
    """The same, but access is denied the first times."""
    left = [times]

    def act(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(arguments[0]))
        return action(*arguments, **options)

    return act


@pytest.mark.parametrize("times", [1, 5])
def test_a_file_in_use_is_replaced_when_it_is_free(
    times: int, tmp_path: Path, windows: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", denied(times, os.replace))
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert len(windows) == times


def test_a_file_that_stays_in_use_is_said(
    tmp_path: Path, windows: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", denied(99, os.replace))
    with pytest.raises(PermissionError, match="another program has it open"):
        write_atomic(target, b"new")
    assert 1 < sum(windows) < 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert target.read_bytes() == b"old"


def test_elsewhere_what_is_denied_is_denied_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "IS_WINDOWS", False)
    monkeypatch.setattr(files.time, "sleep", pytest.fail)
    monkeypatch.setattr(os, "replace", denied(1, os.replace))
    with pytest.raises(PermissionError, match="Access is denied"):
        write_atomic(tmp_path / "a.png", b"new")


def test_files_that_are_being_deleted_are_waited_for(
    tmp_path: Path, windows: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", denied(2, Path.open))
    Manifest(tmp_path / "manifest.jsonl").close()
    monkeypatch.setattr(Path, "unlink", denied(2, Path.unlink))
    discard(tmp_path / "weights.part")
    assert len(windows) == 4


APPEND = """if True:
    import sys
    from pathlib import Path
    from birefnet import files
    from birefnet.cli.remove.manifest import Manifest
    if sys.argv[2] == "windows":
        files.fcntl = None
    manifest = Manifest(Path(sys.argv[1]))
    for number in range(100):
        manifest.add(f"{number:x}", {"status": "done", "input": sys.argv[3] * 3000})
"""


@pytest.mark.parametrize("system", ["windows", "here"])
def test_two_processes_append_whole_lines(system: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    words = [sys.executable, "-c", APPEND, str(path), system]
    for process in [subprocess.Popen([*words, letter]) for letter in "ab"]:
        assert process.wait() == 0
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(entries) == 200
    assert {len(entry["input"]) for entry in entries} == {3000}


REFUSED = {
    "NUL.jpg": "NUL_.jpg",
    "con": "con_",
    "Com1.tar.gz": "Com1_.tar.gz",
    "lpt¹": "lpt¹_",
    "AUX .png": "AUX_.png",
    "a.": "a_",
    "a ": "a_",
    'a<b>c:d"e|f?g*h': "a_b_c_d_e_f_g_h",
    "a\tb": "a_b",
}
TAKEN = ("console.png", "nul2.png", "a.nul", "com10", "com", ".", "..", ".hidden", "é字.png", "a b")


def test_names_that_windows_refuses_are_changed(windows: list[float]) -> None:
    for name, safe in REFUSED.items():
        assert files.safe_name(name) == safe
        assert files.safe_name(safe) == safe
        with pytest.raises(OSError, match="Windows does not take"):
            files.check_path(Path("folder", name))
    for name in TAKEN:
        assert files.safe_name(name) == name
        files.check_path(Path("folder", name))
    for path in (r"C:\a\b.png", r"C:b.png", r"\\server\share\b.png", r"\\?\C:\b.png", r"\\.\NUL"):
        files.check_path(PureWindowsPath(path))
    with pytest.raises(OSError, match="length is 4"):
        files.check_path(Path("x" * 200, "y" * 200))


def test_other_systems_take_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "IS_WINDOWS", False)
    for name in REFUSED:
        assert files.safe_name(name) == name
        files.check_path(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="needs such names among the inputs")
def test_results_have_names_that_windows_takes(tmp_path: Path, windows: list[float]) -> None:
    for name in ("NUL.png", "NUL_.png", "a?/b:.png", "con/a.png"):
        write_disc(tmp_path / "in" / name)
    jobs = list(Search((str(tmp_path / "in"),), str(tmp_path / "out")))
    for job in jobs:
        files.check_path(str(job.target))
    assert len({files.folded(str(job.target)) for job in jobs}) == 4
    with pytest.raises(InputError, match=r"NUL\.png"):
        Search((str(tmp_path / "in/NUL_.png"),), str(tmp_path / "NUL.png")).check()


def test_no_two_results_are_one_file_where_case_is_ignored(tmp_path: Path) -> None:
    for name in ("IMG.PNG", "IMG.png", "img.jpg", "e\u0301.png", "\u00e9.png", "Sub/a.png"):
        write_disc(tmp_path / "in" / name)
    write_disc(tmp_path / "in/sub/A.png")
    for output in (str(tmp_path / "out"), None):
        jobs = list(Search((str(tmp_path / "in"),), output))
        assert len({files.folded(str(job.target)) for job in jobs}) == len(jobs) >= 4


def test_the_same_file_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    assert files.is_same(tmp_path / "a.png", tmp_path / "b.png")
    assert files.is_same(tmp_path / "new.png", tmp_path / "NEW.PNG")  # they may turn out to be
    assert not files.is_same(tmp_path / "a.png", tmp_path / "new.png")


def test_text_files_name_their_encoding() -> None:
    """`open` is ruff's to check (PLW1514), which cannot tell every path from other objects."""
    for folder in ("src", "benchmarks", ".ci", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                before = {"read_text": 0, "write_text": 1}.get(node.func.attr)
                if before is not None and len(node.args) <= before:
                    named = {keyword.arg for keyword in node.keywords}
                    assert "encoding" in named, f"{path}:{node.lineno}"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that not even root can fill")
@pytest.mark.parametrize("writing", ["whole", "draft"])
def test_an_error_names_the_file_that_was_asked_for(writing: str) -> None:
    """And not the temporary one."""
    path = Path("/proc/self/a.png")
    write = {"whole": lambda: write_atomic(path, b"x"), "draft": files.draft_folder(path).__enter__}
    with pytest.raises(OSError, match=r"/proc/self/a\.png"):
        write[writing]()
