"""rembg's server: the requests of its documentation, and what it does with their parameters."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.inference.predictor import Predictor
from birefnet.serving.errors import InvalidRequest
from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file, pixels_of, serving
from fakes import PLAIN, BrightEngine


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def post(client: TestClient, **data: Any) -> Any:
    return client.post("/api/remove", files={"file": ("input.png", disc_file())}, data=data)


def test_a_file_gives_a_png_with_alpha(client: TestClient) -> None:
    answer = post(client)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    pixels = pixels_of(answer.content)
    assert pixels.shape == (48, 64, 4)
    assert pixels[24, 32, 3] == 255
    assert pixels[0, 0, 3] == 0


def test_the_mask_alone(client: TestClient) -> None:
    mask = pixels_of(post(client, om="true").content)
    assert mask.shape == (48, 64)
    assert mask[24, 32] == 255


def test_a_processed_mask_is_all_or_nothing(client: TestClient) -> None:
    assert set(np.unique(pixels_of(post(client, om="true", ppm="true").content))) == {0, 255}


def test_alpha_matting_is_done_inside_the_band(client: TestClient) -> None:
    plain = pixels_of(post(client).content)
    matted = pixels_of(post(client, a="true", af="240", ab="10", ae="10").content)
    assert matted[24, 32, 3] == 255
    assert matted[0, 0, 3] == 0
    assert matted.shape == plain.shape


@pytest.mark.parametrize("place", ["form", "address"])
def test_a_background_colour(client: TestClient, place: str) -> None:
    colour = {"bgc": "255,0,0,255"}
    answer = client.post(
        "/api/remove",
        files={"file": ("input.png", disc_file())},
        data=colour if place == "form" else {},
        params={} if place == "form" else colour,
    )
    assert pixels_of(answer.content)[0, 0].tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize(
    "extras",
    [
        {"sam_prompt": [{"type": "point", "data": [32, 24], "label": 1}]},
        {"sam_prompt": [{"type": "rectangle", "data": [16, 8, 48, 40]}]},
        {"boxes": [[16, 8, 48, 40]]},
        {"points": [[0.5, 0.5]], "not_points": [[2, 2]]},
    ],
)
def test_extras_say_which_object_is_meant(client: TestClient, extras: Any) -> None:
    pixels = pixels_of(post(client, extras=json.dumps(extras)).content)
    assert pixels[24, 32, 3] > 200
    assert pixels[1, 1, 3] == 0


@pytest.mark.parametrize(
    "extras",
    [
        "no JSON",
        '{"model_path": "/etc/passwd"}',
        '{"points": [[1]]}',
        '{"points": [[1e99, 1]]}',
        '{"points": [[NaN, 1]]}',
        '{"sam_prompt": ["point"]}',
        "[" * 50_000,
    ],
)
def test_extras_that_make_no_sense_are_refused(client: TestClient, extras: str) -> None:
    answer = post(client, extras=extras)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"][0]["msg"], str)


@pytest.mark.parametrize("edge", [{"a": "true"}, {"vm": "true"}, {"ppm": "true"}, {"dc": "true"}])
@pytest.mark.parametrize("output", [{}, {"om": "true"}, {"bgc": "0,0,255,128"}])
def test_a_route_gives_what_the_function_gives(
    client: TestClient, edge: dict[str, str], output: dict[str, str]
) -> None:
    from birefnet.compat.rembg import Session, remove

    session = Session("bright", predictor=Predictor(BrightEngine(), PLAIN, name="bright"))
    expected = remove(
        disc_file(),
        session=session,
        alpha_matting="a" in edge or "vm" in edge,
        post_process_mask="ppm" in edge,
        only_mask="om" in output,
        bgcolor=(0, 0, 255, 128) if "bgc" in output else None,
    )
    assert np.array_equal(pixels_of(post(client, **edge, **output).content), pixels_of(expected))


def test_names_of_rembg_find_released_networks() -> None:
    models = ("general", "lite", "portrait", "dis", "hrsod", "cod", "massive", "rmbg", "u2net=nano")
    service = Service(ServerSettings(models=models), Predictor(BrightEngine(), PLAIN, name="b"))
    expected = {
        "birefnet-general": "general",
        "birefnet-general-lite": "lite",
        "birefnet-portrait": "portrait",
        "birefnet-dis": "dis5k",
        "birefnet-hrsod": "hrsod",
        "birefnet-cod": "cod",
        "birefnet-massive": "dis5k-tr-tes",
        "bria-rmbg": "rmbg-2.0",
        "u2net": "u2net",  # the operator said so
    }
    assert {name: service.pool.name_of(name) for name in expected} == expected
    with pytest.raises(Exception, match="no model 'isnet-anime'"):
        service.pool.name_of("isnet-anime")


def test_errors_have_the_form_of_fastapi(client: TestClient) -> None:
    assert isinstance(client.get("/api/remove").json()["detail"], list)
    assert client.get("/api/remove").status_code == 422
    broken = client.post("/api/remove", files={"file": ("input.png", b"no picture")})
    assert broken.status_code == 400
    assert isinstance(broken.json()["detail"], str)


def test_a_url_is_fetched(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(self: Service, url: str, **_: Any) -> bytes:
        if url != "http://input.png":
            raise InvalidRequest(url)
        return disc_file(format="jpeg")

    monkeypatch.setattr(Service, "fetch", fetched)
    answer = client.get("/api/remove", params={"url": "http://input.png", "om": True})
    assert answer.status_code == 200
    assert pixels_of(answer.content).shape == (48, 64)


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "file:///etc/passwd", "http://[::1]/"])
def test_private_urls_are_not_fetched(client: TestClient, url: str) -> None:
    answer = client.get("/api/remove", params={"url": url})
    assert answer.status_code == 400
    assert "passwd" not in answer.text


def test_the_commands_of_its_readme(tmp_path: Path) -> None:
    """`curl` as typed there, against a server of its own."""
    pytest.importorskip("uvicorn")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    from live_server import live

    (tmp_path / "input.jpg").write_bytes(disc_file(format="jpeg"))
    with live(BrightEngine()) as server:
        subprocess.run(
            f'curl -s -F file=@input.jpg "{server.url}/api/remove" -o output.png',
            shell=True,
            check=True,
            cwd=tmp_path,
            timeout=30,
        )
    assert pixels_of((tmp_path / "output.png").read_bytes()).shape == (48, 64, 4)
