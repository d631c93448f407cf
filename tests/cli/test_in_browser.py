"""`birefnet ui --in-browser` serves the page that needs no server."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request

import pytest
from typer.testing import CliRunner

from birefnet.cli.main import app

COMMAND = (sys.executable, "-c", "from birefnet.cli.main import main; main()")


def test_it_serves_and_opens_the_page() -> None:
    opened = "import webbrowser; webbrowser.open = lambda place: print('opened', place, flush=True)"
    command = [*COMMAND[:2], f"{opened}; {COMMAND[2]}", "ui", "--in-browser", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            found = re.fullmatch(r"opened (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert found
            with urllib.request.urlopen(f"{found[1]}/model/config.json") as answer:
                assert b'"nano"' in answer.read()
        finally:
            process.terminate()


@pytest.mark.parametrize(
    "option", ["--device cpu", "--dtype fp32", "--also lite", "--max-size 1M", "--max-megapixels 9"]
)
def test_options_without_effect_are_refused(option: str) -> None:
    done = CliRunner().invoke(app, ["ui", "--in-browser", *option.split()])
    assert done.exit_code == 2
    said = " ".join(done.output.replace("│", " ").split())
    assert f"{option.split()[0]} has no effect with --in-browser" in said
