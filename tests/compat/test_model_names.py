"""Names of models that clients of other services send by themselves, and what answers them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.compat import openai
from birefnet.compat.fal import fields as fal
from birefnet.compat.rembg import names as rembg
from birefnet.inference.predictor import Predictor
from birefnet.serving.app import create_app
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file, serving
from fakes import PLAIN, BrightEngine

FILE = ("a.png", disc_file(), "image/png")
URI = "data:image/png;base64," + base64.b64encode(disc_file()).decode()

Send = Callable[[TestClient, str], Any]
SERVICES: dict[str, tuple[Send, list[str]]] = {
    "rembg": (
        lambda client, name: client.post("/api/remove", files={"file": FILE}, data={"model": name}),
        [*rembg.MODELS, *rembg.OTHERS],
    ),
    "fal": (
        lambda client, name: client.post(
            "/fal-ai/birefnet/v2", json={"image_url": URI, "model": name}
        ),
        list(fal.MODELS),
    ),
    "openai": (
        lambda client, name: client.post(openai.PATH, files={"image": FILE}, data={"model": name}),
        ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest", "dall-e-2"],
    ),
}
CASES = [(service, name) for service, (_, names) in SERVICES.items() for name in names]


@pytest.mark.parametrize(("service", "name"), CASES)
def test_the_default_model_answers_and_says_so(
    service: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    send, _ = SERVICES[service]
    with serving() as client, caplog.at_level(logging.WARNING, "birefnet.serving"):
        for _ in range(2):
            answer = send(client, name)
            assert answer.status_code == 200, answer.text
            assert answer.headers["X-Model"] == "bright"
            assert answer.headers["X-Model-Requested"] == name
    assert [name in record.getMessage() for record in caplog.records] == [True]  # once


@pytest.mark.parametrize("service", SERVICES)
def test_other_names_are_refused(service: str) -> None:
    send, names = SERVICES[service]
    others = ["no-such-model", names[0].upper() + "?"]
    others += [
        name for other, (_, theirs) in SERVICES.items() if other != service for name in theirs
    ]
    with serving() as client:
        for name in others:
            assert 400 <= send(client, name).status_code < 500, name


@pytest.mark.parametrize("service", SERVICES)
def test_strict_models_refuses_them_too(service: str) -> None:
    send, names = SERVICES[service]
    with serving(ServerSettings(page=False, strict_models=True)) as client:
        for name in names:
            assert 400 <= send(client, name).status_code < 500, name
        assert send(client, "bright").status_code == 200


def test_names_of_the_operator_come_first() -> None:
    """And what is offered is no stand-in."""
    settings = ServerSettings(page=False, models=("gpt-image-1=nano", "u2net=nano"))
    with serving(settings) as client:
        for service, name in (("openai", "gpt-image-1"), ("rembg", "u2net")):
            answer = SERVICES[service][0](client, name)
            assert answer.headers["X-Model"] == name
            assert "X-Model-Requested" not in answer.headers


def test_the_server_s_own_route_has_no_such_names() -> None:
    with serving() as client:
        answer = client.post("/v1/remove", files={"file": FILE}, data={"model": "gpt-image-1"})
        assert answer.status_code == 404


REMOVALS: dict[str, Callable[[TestClient], Any]] = {
    "native": lambda client: client.post("/v1/remove", files={"file": FILE}),
    "removebg": lambda client: client.post("/v1.0/removebg", files={"image_file": FILE}),
    **{name: (lambda client, send=send: send(client, "")) for name, (send, _) in SERVICES.items()},
}


@pytest.mark.parametrize("name", ["schön", "模型 a:b/c.1"])
def test_a_model_may_have_any_name(name: str) -> None:
    """Headers hold ASCII alone."""
    app = create_app(Predictor(BrightEngine(), PLAIN, name=name), ServerSettings(page=False))
    with TestClient(app, raise_server_exceptions=False) as client:
        for service, send in REMOVALS.items():
            answer = send(client)
            assert answer.status_code == 200, (service, answer.text)
            assert unquote(answer.headers["X-Model"]) == name, service


TWICE = [
    ("/v1/remove", "file", "kind"),
    ("/v1.0/removebg", "image_file", "size"),
    ("/removebg", "image_file", "crop"),
    (openai.PATH, "image", "n"),
]


def test_what_is_sent_twice_is_not_dropped_in_silence() -> None:
    """Fields and files of a form."""
    with serving() as client:
        for path, file, field in TWICE:
            for name, twice in ((field, [(field, (None, "1"))] * 2), (file, [(file, FILE)])):
                answer = client.post(path, files=[(file, FILE), *twice])
                assert answer.status_code == 400, answer.text
                assert f"{name} is given twice; give it once" in answer.text
