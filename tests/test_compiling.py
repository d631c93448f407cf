"""What numba compiles, where nothing can be kept."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from birefnet import compiling

pytest.importorskip("numba")

FUNCTION = """
import numba
@numba.njit("f8(f8)", cache=True)
def twice(x):
    return 2 * x
"""
# A system on which no folder that numba would choose can be written, even by root.
READ_ONLY = """
import numba.core.caching as caching
def none(*_): return None
for name in dir(caching):
    if not name.endswith(("TreeCacheLocator", "WideCacheLocator")):
        continue
    setattr(getattr(caching, name), "from_function", none)
from birefnet.compiling import import_compiled
print(import_compiled("own_function").twice(21.0))
"""


@pytest.mark.parametrize("folder", [None, "/dev/null/none", "kept"])
def test_functions_are_compiled_anew_where_nothing_can_be_kept(
    folder: str | None, tmp_path: Path
) -> None:
    (tmp_path / "own_function.py").write_text(FUNCTION)
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "HOME": "/dev/null", "TMPDIR": str(tmp_path / "temporary")}
    environment.pop("NUMBA_CACHE_DIR", None)
    if folder:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / folder)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "42.0\n", done.stderr
    if folder == "kept":
        assert not done.stderr
        assert list((tmp_path / "kept").rglob("*.nbi"))
    else:
        assert done.stderr.startswith("what numba compiles for own_function cannot be kept")
        assert "set NUMBA_CACHE_DIR" in done.stderr
    assert not list((tmp_path / "temporary").iterdir())  # nothing is left behind


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "wait", "is_said"), [
    (Terminal(), 0.2, True), (Terminal(), 0, False), (io.StringIO(), 0.2, False),
])  # fmt: skip
def test_a_long_compilation_is_said_on_a_terminal(
    stream: io.StringIO, wait: float, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "SILENCE", 0.05)
    monkeypatch.setattr(sys, "stderr", stream)
    with compiling.announced("a library"):
        time.sleep(wait)
    time.sleep(0.1)
    assert ("compiling a library" in stream.getvalue()) is is_said
