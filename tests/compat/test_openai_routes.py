"""OpenAI's image edits: what its libraries send, and the answers and errors that they read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings
from compat_client import KEY, disc_file, pixels_of, serving

PATH = "/v1/images/edits"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def send(client: TestClient, **fields: Any) -> Any:
    return client.post(PATH, files={"image": ("image.png", disc_file(), "image/png")}, data=fields)


def picture(entry: dict[str, str]) -> Any:
    return pixels_of(base64.b64decode(entry["b64_json"]))


def error_of(answer: Any) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


def test_what_the_python_library_sends(client: TestClient) -> None:
    answer = send(client, prompt="remove the background", background="transparent")
    assert answer.status_code == 200
    content = answer.json()
    assert isinstance(content["created"], int)
    assert content["background"] == "transparent"
    assert content["output_format"] == "png"
    assert content["size"] == "64x48"
    assert content["usage"]["total_tokens"] == 0
    assert set(content["usage"]["input_tokens_details"]) == {"image_tokens", "text_tokens"}
    (entry,) = content["data"]
    pixels = picture(entry)
    assert (pixels[24, 32, 3], pixels[0, 0, 3]) == (255, 0)


def test_several_images(client: TestClient) -> None:
    """The library names them image[]."""
    files = [("image[]", (f"{size}.png", disc_file(size, size))) for size in (40, 50)]
    content = client.post(PATH, files=files, data={"prompt": "x"}).json()
    assert [picture(entry).shape for entry in content["data"]] == [(40, 40, 4), (50, 50, 4)]


@pytest.mark.parametrize("name", ["image", "images", "image_url"])
def test_json(client: TestClient, name: str) -> None:
    text = "data:image/png;base64," + base64.b64encode(disc_file()).decode()
    value: Any = {"image": text, "images": [{"image_url": text}], "image_url": text}[name]
    answer = client.post(PATH, json={name: value, "prompt": "x", "n": 1})
    assert answer.status_code == 200
    assert picture(answer.json()["data"][0]).shape == (48, 64, 4)


def test_a_url_in(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(self: Service, url: str, **_: Any) -> bytes:
        assert url == "https://example.org/a.png"
        return disc_file()

    monkeypatch.setattr(Service, "fetch", fetched)
    body = {"images": [{"image_url": "https://example.org/a.png"}], "prompt": "x"}
    assert client.post(PATH, json=body).status_code == 200


def test_a_url_out(client: TestClient) -> None:
    content = send(client, response_format="url", n="2").json()
    assert len(content["data"]) == 2
    for entry in content["data"]:
        assert pixels_of(client.get(entry["url"]).content).shape == (48, 64, 4)


@pytest.mark.parametrize(
    ("fields", "shape", "corner"),
    [
        ({"output_format": "webp"}, (48, 64, 4), None),
        ({"output_format": "jpeg"}, (48, 64, 3), 255),
        ({"output_format": "jpeg", "background": "opaque", "output_compression": "50"}, None, 255),
        ({"background": "opaque"}, (48, 64, 3), 255),
        ({"background": "auto"}, (48, 64, 4), None),
    ],
)
def test_formats_and_grounds(
    client: TestClient, fields: dict[str, str], shape: Any, corner: int | None
) -> None:
    content = send(client, **fields).json()
    pixels = picture(content["data"][0])
    assert shape in (None, pixels.shape)
    if corner is not None:
        assert pixels[0, 0].min() > 250
    assert content["background"] == ("opaque" if corner else "transparent")
    assert content["output_format"] == fields.get("output_format", "png")


def test_a_mask_says_which_subject_is_meant(client: TestClient) -> None:
    """What is to be edited is transparent in it: the subject is what is left."""
    import io

    import numpy as np
    from PIL import Image

    pair = np.full((48, 128, 3), 20, np.uint8)
    pair[12:36, 12:44] = pair[12:36, 84:116] = 235
    kept = np.zeros((48, 128, 4), np.uint8)
    kept[:, 64:] = 255
    buffers = [io.BytesIO(), io.BytesIO()]
    for array, buffer in zip((pair, kept), buffers, strict=True):
        Image.fromarray(array).save(buffer, "png")
    files = {
        name: (name, buffer.getvalue())
        for name, buffer in zip(("image", "mask"), buffers, strict=True)
    }
    content = client.post(PATH, files=files, data={"prompt": "x"}).json()
    alpha = picture(content["data"][0])[..., 3]
    assert alpha[24, 100] > 200
    assert alpha[24, 28] < 50


def test_unused_fields_are_accepted(client: TestClient) -> None:
    unused = {"size": "1024x1024", "quality": "high", "input_fidelity": "high", "user": "me"}
    answer = send(client, prompt="make it blue", moderation="low", stream="false", **unused)
    assert answer.status_code == 200
    assert answer.json()["size"] == "64x48"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": "red"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent", "output_format": "jpeg"}, "output_format"),
        ({"response_format": "text"}, "response_format"),
        ({"n": "0"}, "n"),
        ({"n": "11"}, "n"),
        ({"n": "9" * 5000}, "n"),
        ({"output_format": "webp", "output_compression": "101"}, "output_compression"),
    ],
)
def test_a_bad_field_is_named(client: TestClient, fields: dict[str, str], param: str) -> None:
    answer = send(client, **fields)
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"image": None},
        {"image": 5},
        {"image": [[]]},
        {"images": [{"file_id": "file-1"}]},
        {"image": "%%%"},
        {"image": "data:image/png;base64,AAAA"},
        {"image": ["x"] * 17},
        {"image": "http://127.0.0.1/a.png"},
        {"image": "x", "model": 5},
    ],
)
def test_pictures_that_cannot_be_used(client: TestClient, body: Any) -> None:
    answer = client.post(PATH, json=body)
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


def test_unknown_models_are_refused(client: TestClient) -> None:
    answer = send(client, model="gpt-5")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    assert send(client, model="bright").status_code == 200


@pytest.mark.parametrize("fields", [{}, {"n": "2"}, {"response_format": "url"}])
def test_a_stream_is_an_event_for_each_picture(client: TestClient, fields: dict[str, str]) -> None:
    answer = send(client, stream="true", model="gpt-image-1", **fields)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")[:-1]
    assert len(events) == int(fields.get("n", 1))
    for event in events:
        name, data = event.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert name.removeprefix("event: ") == content["type"] == "image_edit.completed"
        assert set(content) == {
            *("type", "b64_json", "background", "created_at", "output_format", "quality", "size"),
            "usage",
        }
        assert picture(content).shape == (48, 64, 4)


def test_one_model_can_be_looked_up(client: TestClient) -> None:
    for name in ("bright", "nano", "gpt-image-1"):
        content = client.get(f"/v1/models/{name}").json()
        assert (content["id"], content["object"]) == (name, "model")
        assert {"created", "owned_by"} <= set(content)
    missing = client.get("/v1/models/gpt-5")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "model_not_found")


def test_keys_and_bodies() -> None:
    settings = ServerSettings(page=False, api_keys=(KEY,), max_bytes=5_000)
    with serving(settings) as client:
        refused = send(client)
        assert (refused.status_code, error_of(refused)["code"]) == (401, "invalid_api_key")
        client.headers["Authorization"] = f"Bearer {KEY}"
        assert send(client).status_code == 200
        large = client.post(PATH, json={"image": "A" * 10_000})
        assert (large.status_code, error_of(large)["type"]) == (400, "invalid_request_error")
        text = client.post(PATH, content="x", headers={"Content-Type": "text/plain"})
        assert text.status_code == 400
