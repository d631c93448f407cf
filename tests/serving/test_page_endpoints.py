"""The page's named endpoints, called by Gradio's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

import httpx
from gradio_client import Client, handle_file

from birefnet.serving.settings import ServerSettings
from fakes import BrightEngine, write_disc
from live_server import live


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with live(BrightEngine(), ServerSettings(grace_s=5)) as server:
        yield Client(f"{server.url}/", verbose=False)


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    return handle_file(write_disc(tmp_path / "disc.png"))


def pixels(path: str) -> Any:
    return np.asarray(Image.open(path))


def test_they_are_listed(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)
    assert set(described["named_endpoints"]) == {"/remove", "/inference", "/predict"}
    assert described["unnamed_endpoints"] == {}


def test_own_endpoint(client: Client, picture: Any) -> None:
    cutout = pixels(client.predict(picture, api_name="/remove"))
    assert (cutout.shape, cutout[24, 32, 3], cutout[0, 0, 3]) == ((48, 64, 4), 255, 0)
    path = client.predict(picture, {"kind": "mask", "format": "webp"}, api_name="/remove")
    assert path.endswith(".webp")
    for wrong, said in (
        ({"kind": "x"}, "kind: "),
        ({"objects": True}, "/v1/batch"),
        ({"a": 1}, "a"),
    ):
        with pytest.raises(Exception, match=said):
            client.predict(picture, wrong, api_name="/remove")


@pytest.mark.parametrize("name", ["/inference", "/predict"])
def test_rembg_s_endpoint(client: Client, picture: Any, name: str) -> None:
    """With the values that the form of rembg's page has at first, in their order."""
    values = ("u2net", True, 240, 10, 40, False, True, False, False, "")
    cutout = pixels(client.predict(picture, *values, api_name=name))
    assert cutout.shape == (48, 64, 4)
    assert set(np.unique(cutout[..., 3])) == {0, 255}
    assert np.array_equal(pixels(client.predict(picture, api_name=name)), cutout)  # the form's
    mask = pixels(client.predict(input_image=picture, model="u2net", param_6=True, api_name=name))
    assert np.array_equal(mask, cutout[..., 3])
    with pytest.raises(Exception, match="no model 'nothing'"):
        client.predict(picture, "nothing", *values[1:], api_name=name)


FILES = ("api", "file", "uploadbutton", "video")
"""Components whose values name files."""


def called(client: Client, number: int, values: list[Any]) -> dict[str, Any]:
    """What the page's function of this number answers to values sent as they are."""
    body = {"data": values, "fn_index": number, "session_hash": f"s{number}"}
    base = f"{client.src}gradio_api/queue"
    assert httpx.post(f"{base}/join", json=body).status_code == 200
    with httpx.stream("GET", f"{base}/data?session_hash=s{number}", timeout=60) as answer:
        for line in answer.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return dict(message)
    raise AssertionError("it was never done")


def test_only_uploads_are_read(client: Client, tmp_path: Path) -> None:
    """Clients can send any path as that of an upload, to every function, those of the page too."""
    secret = write_disc(tmp_path / "secret.png")
    payload = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    kinds = {part["id"]: part["type"] for part in client.config["components"]}
    tried = set()
    for number, function in enumerate(client.config["dependencies"]):
        wanted = [kinds[part] for part in function["inputs"]]
        if not function["backend_fn"] or not set(FILES) & set(wanted):
            continue
        place = next(i for i, kind in enumerate(wanted) if kind in FILES)
        values: list[Any] = [None] * len(wanted)
        values[place] = [payload] if wanted[place] == "file" else payload
        done = called(client, number, values)
        assert not done["success"], function
        assert "secret" not in json.dumps(done.get("output"))
        tried.add(wanted[place])
    assert tried >= {"api", "file", "uploadbutton"}
    assert secret.exists()
