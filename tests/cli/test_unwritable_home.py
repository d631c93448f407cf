"""Every command where no cache can be written: it works, or says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fakes import write_disc

# Runs commands one after the other in one process, which spares the imports; a line for each.
RUN = """
import io, json, sys, contextlib
from birefnet.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["birefnet", *arguments]
    heard = io.StringIO()
    status = 0
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    print(json.dumps([arguments[0], status, heard.getvalue()[-600:]]))
"""


def test_commands_without_a_place_to_write(tmp_path: Path) -> None:
    write_disc(tmp_path / "a.png")
    write_disc(tmp_path / "truth" / "a.png")
    write_disc(tmp_path / "masks" / "a.png")
    small = ["--resolution", "64"]
    commands = [
        ["doctor"],
        ["models", "list"],
        ["models", "info", "nano"],
        ["remove", "a.png", "-o", "1.png", "--engine", "onnx", *small],
        ["remove", "a.png", "-o", "3.png", "--matting", "guided", *small],
        ["evaluate", "-p", "masks", "-t", "truth"],
    ]
    if find_spec("torch"):
        commands.append(["remove", "a.png", "-o", "4.png", "--engine", "torch", *small])
        commands.append(["explain", "a.png", "-o", "explained.png", *small])
    if find_spec("openvino"):
        commands.append(["remove", "a.png", "-o", "2.png", "--engine", "openvino", *small])
    # Below a device nothing can be made, not even by root.
    nowhere = dict.fromkeys(
        ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "BIREFNET_CACHE", "HF_HOME", "MPLCONFIGDIR",
         "NUMBA_CACHE_DIR", "TORCH_HOME"), "/dev/null/none",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        env={**os.environ, **nowhere, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(commands), done.stderr[-2000:]
    for name, status, said in found:
        assert "Traceback" not in said
        # The doctor's report is to say that the cache cannot be written.
        assert status == (1 if name == "doctor" else 0), (name, said)


@pytest.mark.parametrize("name", ["general"])
def test_a_download_that_cannot_be_kept_names_the_folder(name: str, tmp_path: Path) -> None:
    write_disc(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-m", "birefnet", "models", "download", name],
        env={**os.environ, "HOME": "/dev/null/none", "BIREFNET_CACHE": "/dev/null/none",
             "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/dev/null/none" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
