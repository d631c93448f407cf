"""Every field of every route: numbers beyond their range are refused, and text never names a file.

The fields are read from the OpenAPI document and from the models, so that a new one is tried, too.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("fastapi")

from birefnet.errors import OptionError
from birefnet.options import FILE_OPTIONS, OPTIONS, Options
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file, serving
from fakes import disc, write_disc
from watched_files import opened

PICTURE = {
    "/v1/remove": "image",
    "/v1/batch": "image",
    "/v1/video": "image",
    "/v1.0/removebg": "image_file_b64",
    "/removebg": "image_file_b64",
    "/v1/images/edits": "image",
    "/fal-ai/birefnet/v2": "image_url",
    "/queue/fal-ai/birefnet/v2": "image_url",
    "/fal-ai/birefnet/v2/video": "video_url",
    "/queue/fal-ai/birefnet/v2/video": "video_url",
    "/api/remove": "file",
}
"""Route → the field of its picture."""

KINDS = (
    "query",
    "application/json",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
)
"""Ways to say a field."""


def document(client: Any) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def schemas(client: Any) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Path, content type (or "query"), name and schema of each field of each route."""
    content = document(client)
    for path, methods in content["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    yield path, "query", parameter["name"], parameter["schema"]
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                schema = body["schema"]
                if "$ref" in schema:
                    schema = content["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                for name, field in schema.get("properties", {}).items():
                    yield path, kind, name, field


def numbers_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for form in (schema, *schema.get("anyOf", ())):
        if form.get("type") in ("integer", "number"):
            yield form


def send(client: Any, path: str, kind: str, name: str, value: Any) -> Any:
    """A good picture with this field beside it."""
    picture = disc_file(format="gif") if "video" in path else disc_file()
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    own = PICTURE[path]
    if kind == "query":
        return client.get(path, params={"url": "http://127.0.0.1/", name: value})
    if kind == "application/json":
        return client.post(path, json={own: uri, name: value})
    text = value if isinstance(value, str) else json.dumps(value)
    if kind == "application/x-www-form-urlencoded":
        return client.post(path, data={own: uri, name: text})
    file = {"image_file_b64": "image_file"}.get(own, own)
    file = "file" if path.startswith("/v1/") and path != "/v1/images/edits" else file
    if name == file:
        return client.post(path, data={name: text}, files={"other": b""})
    return client.post(path, data={name: text}, files={file: picture})


def test_numbers_beyond_their_range_are_refused() -> None:
    tried = 0
    with serving(ServerSettings(page=False, jobs=1_000)) as client:
        for path, kind, name, schema in schemas(client):
            if path not in PICTURE:
                continue
            for form in numbers_in(schema):
                bounds = [
                    form.get("minimum", form.get("exclusiveMinimum")),
                    form.get("maximum", form.get("exclusiveMaximum")),
                ]
                assert None not in bounds, (path, name, form)
                for value in (bounds[0] - 1, bounds[1] + 1, 10 * bounds[1] + 999, -(10**9)):
                    answer = send(client, path, kind, name, value)
                    about = (path, kind, name, value, answer.text[:300])
                    assert 400 <= answer.status_code < 500, about
                    assert name in answer.text, about
                    tried += 1
    assert tried > 200


@pytest.mark.parametrize("name", [name for name, about in OPTIONS.items() if about.range])
def test_options_refuse_numbers_beyond_their_range_everywhere(name: str) -> None:
    allowed, default = OPTIONS[name].range, OPTIONS[name].default
    assert allowed is not None
    assert default is None or default in allowed
    for value in (allowed.least - 1, allowed.most + 1, float("nan"), float("inf"), "much"):
        with pytest.raises(OptionError, match=f"^{name} is"):
            Options(**{name: value}).prepared()


def test_every_number_of_the_options_has_a_range() -> None:
    for name, about in OPTIONS.items():
        kind = about.type
        kinds = {kind, *get_args(kind)}
        is_number = bool(kinds & {int, float}) and str not in kinds and name != "resolution"
        assert is_number == (OPTIONS[name].range is not None), name


# Files of the server


def test_text_never_names_a_file_of_the_server(tmp_path: Path) -> None:
    path = write_disc(tmp_path / "secret.png")
    tried = set()
    with serving(ServerSettings(page=False, jobs=10_000)) as client, opened() as names:
        offered = {(route, kind, name) for route, kind, name, _ in schemas(client)}
        # Fields that no document names: those of the options, whatever they are.
        options = [field.name for field in fields(Options)]
        json_routes = set(PICTURE) - {"/api/remove"}
        offered |= {(route, KINDS[1], name) for route in json_routes for name in options}
        for route, kind, name in sorted(offered):
            if route not in PICTURE or kind not in KINDS:
                continue
            for text in (str(path), f"file://{path}", f"@{path}", [str(path)]):
                if kind != "application/json" and isinstance(text, list):
                    continue
                send(client, route, kind, name, text)
            tried.add((route, name))
        own = client.get("/v1/models")
        assert own.status_code == 200
    assert {route for route, _ in tried} == set(PICTURE)
    assert len(tried) > 150
    assert not [name for name in names if "secret" in name]


@pytest.mark.parametrize("name", sorted(FILE_OPTIONS))
def test_options_that_may_name_a_file_are_declared(name: str, tmp_path: Path) -> None:
    """The command's options do read that file: what the server must not do is what these do."""
    path = write_disc(tmp_path / "secret.png")
    with opened() as names:
        Options(**{name: str(path)}).prepared()
    assert any("secret" in name for name in names)


def test_no_other_option_opens_a_file(tmp_path: Path) -> None:
    from birefnet.inference.predictor import Predictor
    from fakes import PLAIN, BrightEngine

    path = write_disc(tmp_path / "secret.png")
    predictor = Predictor(BrightEngine(), PLAIN)
    with opened() as names:
        for field in fields(Options):
            if field.name in FILE_OPTIONS:
                continue
            for value in (str(path), (str(path),)):
                with contextlib.suppress(Exception):
                    options = Options(**{field.name: value}).prepared()
                    options.encode(options.finish(options.predict(predictor, disc())), "png")
    assert not [name for name in names if "secret" in name]


@pytest.mark.parametrize("name", ["boxes", "points", "other_points"])
def test_marks_are_limited_in_number_by_every_way_in(name: str) -> None:
    from birefnet.imaging.picture import Limits
    from birefnet.serving.errors import InvalidRequest
    from birefnet.serving.service import safe_options

    marks = ["0.1,0.1,0.9,0.9" if name == "boxes" else "0.5,0.5"] * 65
    with pytest.raises(InvalidRequest, match=name):
        safe_options(Options(**{name: tuple(marks)}), Limits())
    extras = json.dumps({"not_points" if name == "other_points" else name: marks})
    uri = base64.b64encode(disc_file()).decode()
    with serving() as client:
        for answer in (
            client.post("/v1/remove", json={"image": uri, name: marks}),
            client.post("/v1/remove", data={name: marks}, files={"file": disc_file()}),
            client.post("/api/remove", data={"extras": extras}, files={"file": disc_file()}),
        ):
            assert 400 <= answer.status_code < 500, answer.text


def test_the_pages_bodies_are_judged_too() -> None:
    pytest.importorskip("gradio")
    with serving(ServerSettings()) as client:
        for body in (b'{"data": [' + b"[1,2]," * 100_000, b"[" * 100_000):
            for headers in ({"content-type": "application/json"}, {}):
                for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
                    answer = client.post(path, content=body, headers=headers)
                    assert answer.status_code in (400, 413), answer.text
                    assert "JSON" in answer.text
