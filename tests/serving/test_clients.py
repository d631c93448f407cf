"""The clients of examples/clients, against a server that runs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from PIL import Image

import birefnet
from birefnet.serving.settings import ServerSettings
from compat_client import KEY, disc_file
from fakes import BrightEngine
from live_server import Live, live

CLIENTS = Path(birefnet.__file__).parents[2] / "examples" / "clients"
PROGRAMS = {"cutout.py": [sys.executable], "cutout.mjs": ["node"], "cutout.sh": ["sh"]}

pytestmark = pytest.mark.skipif(not CLIENTS.exists(), reason="installed without its repository")


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live(BrightEngine(), ServerSettings(page=False, api_keys=(KEY,), grace_s=5)) as server:
        yield server


@pytest.fixture(params=PROGRAMS)
def client(request: pytest.FixtureRequest) -> list[str]:
    program = PROGRAMS[request.param][0]
    needed = "curl" if request.param.endswith(".sh") else program
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not here")
    return [*PROGRAMS[request.param], str(CLIENTS / request.param)]


def run(client: list[str], server: Live, folder: Path, *words: str, key: str = KEY) -> str:
    """What the client says, with its exit status in front."""
    environment = {**os.environ, "BIREFNET_URL": server.url, "BIREFNET_API_KEY": key}
    done = subprocess.run(
        [*client, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def test_a_picture_is_cut_out(client: list[str], server: Live, tmp_path: Path) -> None:
    (tmp_path / "a picture.png").write_bytes(disc_file())
    assert run(client, server, tmp_path, "a picture.png", "out.png") == "0 "
    with Image.open(tmp_path / "out.png") as cutout:
        assert (cutout.mode, cutout.size) == ("RGBA", (64, 48))
        assert cutout.getpixel((32, 24))[3] > 250
        assert cutout.getpixel((2, 2))[3] < 5
    words = ["a picture.png", "out.jpg", "format=jpeg", "background=#ff0000", "quality=90"]
    assert run(client, server, tmp_path, *words) == "0 "
    with Image.open(io.BytesIO((tmp_path / "out.jpg").read_bytes())) as picture:
        assert picture.format == "JPEG"
        assert picture.convert("RGB").getpixel((2, 2))[0] > 230


def test_errors_are_the_servers_sentence(client: list[str], server: Live, tmp_path: Path) -> None:
    (tmp_path / "no-picture.png").write_bytes(b"nothing of the kind")
    output = run(client, server, tmp_path, "no-picture.png", "out.png")
    assert output[0] != "0"
    assert "picture" in output
    assert not (tmp_path / "out.png").exists()
    (tmp_path / "picture.png").write_bytes(disc_file())
    output = run(client, server, tmp_path, "picture.png", "out.png", "backgruond=white")
    assert "there is no field 'backgruond'" in output
    output = run(client, server, tmp_path, "picture.png", "out.png", key="x" * 20)
    assert "this server wants an API key" in output
    assert output[0] != "0"
    assert run(client, server, tmp_path)[0] != "0"
