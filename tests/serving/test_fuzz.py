"""Whatever is sent, the server answers: 4xx with one sentence, never 5xx, never a stack trace.

The long form: `pytest -m slow tests/serving/test_fuzz.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

import httpx

from birefnet.serving.errors import FetchError
from birefnet.serving.fetch import fetch
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file
from fakes import BrightEngine
from hostile import ODD_URLS, bombs, mutants, png_of_size, polyglots, seeds, zips
from live_server import live

HARMLESS = (
    "png and zip",
    "jpeg and script",
    "png with a long profile",
    "png with a long text",
)
"""Good pictures, once what is hidden in them is left alone."""

LIMITS = ServerSettings(
    page=False,
    max_pixels=1_000_000,
    max_bytes=8 * 2**20,
    max_resolution=256,
    max_entries=100,
    max_frames=50,
    timeout_s=20,
    fetch_timeout_s=2,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where a server listens whose limits are small."""
    with live(BrightEngine(), LIMITS) as running:
        yield running.url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Any]:
    with httpx.Client(base_url=server, timeout=60) as made:
        yield made


def check(answer: Any, what: object = "") -> None:
    """A good answer, or one sentence in the form of its family."""
    about = f"{what}: {answer.status_code} {answer.text[:300]!r}"
    assert answer.status_code < 500, about
    assert "Traceback" not in answer.text, about
    assert 'File "' not in answer.text, about
    if answer.status_code >= 400:
        sentence = sentence_of(answer.json())
        assert sentence, about
        assert "\n" not in sentence, about
        assert len(sentence) < 1000, about
        assert "/site-packages" not in sentence, about


def sentence_of(content: Any) -> str:
    """What an error says, in any family's form."""
    if "error" in content:
        return str(content["error"]["message"])
    if "errors" in content:
        return str(content["errors"][0]["title"])
    detail = content.get("detail", content.get("status"))
    return str(detail[0]["msg"] if isinstance(detail, list) else detail)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def each_way_in(client: Any, data: bytes, number: int) -> Any:
    """A picture sent by one of the routes that take pictures."""
    text = base64_of(data)
    ways = (
        lambda: client.post("/v1/remove", files={"file": ("a.png", data)}),
        lambda: client.post("/v1/remove", json={"image": text, "answer": "json"}),
        lambda: client.post("/api/remove", files={"file": ("a.png", data)}),
        lambda: client.post("/v1.0/removebg", files={"image_file": ("a.png", data)}),
        lambda: client.post("/v1.0/removebg", json={"image_file_b64": text, "crop": True}),
        lambda: client.post(
            "/fal-ai/birefnet/v2", json={"image_url": f"data:image/png;base64,{text}"}
        ),
        lambda: client.post("/v1/images/edits", files={"image": ("a.png", data)}),
        lambda: client.post(
            "/v1/remove", files={"file": ("a.png", disc_file()), "background": ("b", data)}
        ),
        lambda: client.post(
            "/v1/images/edits", files={"image": ("a", disc_file()), "mask": ("b", data)}
        ),
    )
    return ways[number % len(ways)]()


def test_good_pictures_of_every_kind_are_cut_out(client: Any) -> None:
    for number, (name, data) in enumerate(seeds().items()):
        answer = client.post("/v1/remove", files={"file": (name, data)})
        assert answer.status_code == 200, (name, answer.text)
        check(each_way_in(client, data, number), name)


def mutate(client: Any, count: int) -> dict[int, int]:
    statuses: dict[int, int] = {}
    for number, (name, data) in enumerate(mutants(count)):
        answer = each_way_in(client, data, number)
        check(answer, name)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    return statuses


def test_mutated_pictures(client: Any) -> None:
    statuses = mutate(client, 90)
    assert len(statuses) > 1  # some are still good, some are not


@pytest.mark.slow
def test_a_thousand_mutated_pictures(client: Any) -> None:
    print(mutate(client, 1_000))


@pytest.mark.parametrize("name", [*bombs(), *polyglots()])
def test_bombs_and_polyglots(client: Any, name: str) -> None:
    data = {**bombs(), **polyglots()}[name]
    start = time.monotonic()
    for number in range(9):
        answer = each_way_in(client, data, number)
        check(answer, name)
        if name not in HARMLESS:
            assert answer.status_code >= 400, name
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("name", list(zips()))
def test_zips(client: Any, name: str) -> None:
    answer = client.post("/v1/batch", files={"file": ("a.zip", zips()[name])})
    check(answer, name)
    if answer.status_code == 200:
        import io
        import zipfile

        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            for entry in archive.namelist():
                assert ".." not in entry.split("/")
                assert not entry.startswith("/")


def test_an_animation_of_many_frames(client: Any) -> None:
    """Only its first frame is asked for, and the rest costs nothing."""
    from io import BytesIO

    from PIL import Image

    frames = [Image.new("L", (8, 8), number % 256) for number in range(2_000)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    check(client.post("/v1/remove", files={"file": ("a.gif", buffer.getvalue())}))
    answer = client.post("/v1/video", files={"file": ("a.gif", buffer.getvalue())})
    check(answer)


@pytest.mark.parametrize("url", ODD_URLS)
def test_odd_urls(client: Any, url: str) -> None:
    for number, answer in enumerate(
        (
            client.post("/v1/remove", json={"url": url}),
            client.post("/v1/remove", data={"url": url, "background": url}),
            client.get("/api/remove", params={"url": url}),
            client.post("/v1.0/removebg", data={"image_url": url}),
            client.post(
                "/v1.0/removebg",
                json={"image_file_b64": base64_of(disc_file()), "bg_image_url": url},
            ),
            client.post("/fal-ai/birefnet/v2", json={"image_url": url}),
            client.post("/fal-ai/birefnet/v2/video", json={"video_url": url}),
            client.post("/v1/images/edits", json={"images": [{"image_url": url}]}),
            client.post("/v1/video", json={"url": url}),
        )
    ):
        check(answer, (number, url))
        assert answer.status_code >= 400, (number, url)
        assert "root:" not in answer.text


PUBLIC, PRIVATE = "93.184.216.34", "127.0.0.1"


def resolving(monkeypatch: pytest.MonkeyPatch, *turns: str) -> list[str]:
    """Every name resolves to the next of these addresses, the last for ever."""
    lookups: list[str] = []

    async def resolve(self: Any, host: str, port: int, **_: Any) -> Any:
        lookups.append(host)
        address = host if host[0].isdigit() else turns[min(len(lookups), len(turns)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    return lookups


def test_redirects_to_private_places_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, PUBLIC)
    for target in ("http://127.0.0.1/", "//10.0.0.1/a", "file:///etc/passwd", "http://u:p@a.org/"):
        reached: list[str] = []

        def answer(request: Any, target: str = target, reached: list[str] = reached) -> Any:
            reached.append(str(request.url))
            return httpx.Response(302, headers={"Location": target})

        with pytest.raises(FetchError):
            asyncio.run(
                fetch("http://a.org/", ServerSettings(), transport=httpx.MockTransport(answer))
            )
        assert len(reached) == 1


def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, PUBLIC, PRIVATE)
    reached: list[str] = []

    def answer(request: Any) -> Any:
        reached.append(request.url.host)
        if len(reached) == 1:
            return httpx.Response(302, headers={"Location": "http://a.org/again"})
        return httpx.Response(200, content=b"secret")

    with pytest.raises(FetchError, match="not public"):
        asyncio.run(fetch("http://a.org/", ServerSettings(), transport=httpx.MockTransport(answer)))
    assert reached == [PUBLIC]  # the address that was judged, not the name


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/v1/remove", {"Content-Type": "application/json"}, b"[" * 200_000),
        ("/v1/remove", {"Content-Type": "application/json"}, b'{"image": NaN}'),
        ("/v1/remove", {"Content-Type": "application/json"}, b'{"image": "\\ud800"}'),
        ("/v1/remove", {"Content-Type": "application/json"}, b'{"\\ud800": "\\ud800"}'),
        ("/v1/remove", {"Content-Type": "application/json"}, b'{"resolution": 1e400}'),
        ("/v1/remove", {"Content-Type": "application/json"}, b'{"resolution": %s}' % (b"9" * 6000)),
        ("/v1/remove", {"Content-Type": "application/json"}, b"\xff\xfe\x00"),
        ("/v1/remove", {"Content-Type": "multipart/form-data"}, b"--a\r\n\r\n"),
        ("/v1/remove", {"Content-Type": "multipart/form-data; boundary=a"}, b"--a\r\nx"),
        ("/v1/remove", {"Content-Type": "multipart/form-data; boundary=" + "a" * 300}, b""),
        ("/v1/remove", {"Content-Type": "image/png"}, b""),
        ("/v1/remove", {"Content-Type": "text/html"}, b"<html>"),
        ("/v1/remove", {"Content-Length": "5", "Content-Type": "image/png"}, b"12345"),
        ("/api/remove", {"Content-Type": "multipart/form-data; boundary=a"}, b"--a--"),
        ("/api/remove", {"Content-Type": "application/json"}, b"{}"),
        ("/v1.0/removebg", {"Content-Type": "application/json"}, b"[" * 200_000),
        ("/v1.0/removebg", {"Content-Type": "application/json"}, b'{"roi": "\\ud800"}'),
        ("/v1.0/removebg", {"Content-Type": "application/json"}, b'{"image_file_b64": {"a": 1}}'),
        ("/v1.0/removebg", {}, b""),
        ("/fal-ai/birefnet/v2", {"Content-Type": "application/json"}, b'{"image_url": "\\ud800"}'),
        ("/fal-ai/birefnet/v2", {"Content-Type": "application/json"}, b'{"model": "\\ud800"}'),
        ("/fal-ai/birefnet/v2", {"Content-Type": "application/json"}, b"null"),
        ("/v1/images/edits", {"Content-Type": "application/json"}, b'{"image": "\\ud800"}'),
        ("/v1/images/edits", {"Content-Type": "application/json"}, b'{"model": "\\ud800"}'),
        ("/v1/video", {"Content-Type": "video/mp4"}, b"\0\0\0\x20ftypisom" + b"\0" * 64),
        ("/v1/batch", {"Content-Type": "application/zip"}, b"PK\x05\x06" + b"\0" * 18),
    ],
)
def test_bodies_that_cannot_be_understood(
    client: Any, path: str, headers: dict[str, str], body: bytes
) -> None:
    answer = client.post(path, content=body, headers=headers)
    check(answer, (path, body[:60]))
    assert answer.status_code >= 400 or path == "/v1/batch"


def test_a_form_of_many_fields(client: Any) -> None:
    many = {f"field{number}": "x" for number in range(3_000)}
    for path in ("/v1/remove", "/v1.0/removebg", "/v1/images/edits"):
        answer = client.post(path, data=many, files={"file": ("a", b"x")})
        check(answer, path)
        assert answer.status_code >= 400


@pytest.mark.parametrize(
    "fields",
    [
        {"resolution": 100_000},
        {"resolution": "99999x99999"},
        {"resolution": -1},
        {"resolution": 0},
        {"resolution": "native"},
        {"kind": "\0"},
        {"background": "/etc/passwd"},
        {"background": "../../etc/passwd"},
        {"guide": "/etc/passwd"},
        {"mask_blur": 1e9},
        {"mask_blur": "nan"},
        {"mask_offset": 1e308},
        {"mask_offset": -9_999},
        {"threshold": "inf"},
        {"quality": 10**30, "format": "jpeg"},
        {"boxes": ["0,0,1e999,5"]},
        {"boxes": ["a"] * 1_000},
        {"points": ["nan,nan"]},
        {"passes": 10**9},
        {"matting": "closed-form" * 100},
        {"crop_margin": "1e99px", "crop": True},
        {"crop_margin": 9_999, "crop": True},
        {"crop_margin": "99999%", "crop": True},
        {"aspect": "0:0", "crop": True},
        {"shadow": "ground", "shadow_length": 1e9},
        {"band": 1e9, "matting": "guided"},
        {"model": "../../etc/passwd"},
        {"model": "https://example.org/a.pth"},
        {"format": "exe"},
    ],
)
def test_options_that_make_no_sense(client: Any, fields: dict[str, Any]) -> None:
    start = time.monotonic()
    answer = client.post("/v1/remove", json={"image": base64_of(disc_file()), **fields})
    check(answer, fields)
    assert "root:" not in answer.text
    assert time.monotonic() - start < 10
    data = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in fields.items()
    }
    check(client.post("/v1/remove", files={"file": ("a", disc_file())}, data=data), data)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": "10%", "crop": "true", "crop_margin": "500px"},
        {"scale": "100%"},
        {"crop": "true", "crop_margin": "50%"},
        {"roi": "0px 0px 1px 1px"},
        {"roi": "99999px 0px 999999px 1px"},
        {"roi": "100% 100% 0% 0%"},
        {"position": "100% 100%", "scale": "10%"},
        {"crop_margin": "9" * 400 + "px"},
        {"scale": "1" * 400 + "%"},
        {"bg_color": "rgb(" + "9" * 400 + ",0,0)"},
        {"bg_color": "hsl(0,0%,0%)"},
        {"bg_color": "/etc/passwd"},
    ],
)
def test_odd_placements(client: Any, fields: dict[str, str]) -> None:
    for size in ((48, 64), (1, 1), (1, 900)):
        files = {"image_file": ("a.png", disc_file(*size))}
        check(client.post("/v1.0/removebg", files=files, data=fields), (fields, size))


def test_a_picture_just_within_the_limits(client: Any) -> None:
    assert (
        client.post("/v1/remove", files={"file": ("a.png", disc_file(1000, 1000))}).status_code
        == 200
    )
    answer = client.post("/v1/remove", files={"file": ("a.png", png_of_size(1001, 1000))})
    assert answer.status_code in (400, 413)
    check(answer)


def test_the_server_is_still_well(client: Any) -> None:
    assert client.get("/ready").json()["status"] == "ready"
    assert b"birefnet_requests" in client.get("/metrics").content
