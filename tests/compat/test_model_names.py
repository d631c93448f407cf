"""Names of models that clients of other services send by themselves, and what answers them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.compat import openai
from birefnet.compat.fal import fields as fal
from birefnet.compat.rembg import names as rembg
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file, serving

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
