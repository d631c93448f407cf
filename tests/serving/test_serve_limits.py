"""What a client may cost: connections, pixels, memory, disk; and what one may do to another."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import io
import ipaddress
import logging
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("hypothesis")

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from birefnet.errors import BiRefNetError
from birefnet.inference.predictor import Predictor
from birefnet.serving.budget import PixelBudget
from birefnet.serving.errors import Overloaded, TooLarge
from birefnet.serving.fetch import is_public
from birefnet.serving.settings import ServerSettings
from birefnet.serving.zips import Unzipped
from compat_client import KEY, disc_file, serving
from fakes import PLAIN, BrightEngine
from hostile import zip_of
from live_server import Live, SlowEngine, live

OTHER_KEY = "another-key-of-24-letters"


# Connections


def connect(server: Live) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def answer_of(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            data += part
    return data


@pytest.mark.parametrize("parts", [1, 7])
def test_headers_are_limited(parts: int) -> None:
    with live(BrightEngine()) as server:
        for size, status in ((50_000, b" 200 "), (70_000, b" 431 "), (3_000_000, b" 431 ")):
            head = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: "
            head += b"a" * size + b"\r\n\r\n"
            with connect(server) as connection, contextlib.suppress(OSError):
                for start in range(0, len(head), -(-len(head) // parts)):
                    connection.sendall(head[start : start + -(-len(head) // parts)])
                    time.sleep(0.01 if parts > 1 else 0)
            with connect(server) as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(head)
                assert status in answer_of(connection)[:30]


@pytest.mark.parametrize("sent", [b"", b"POST /v1/re", b"GET /health HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("after_another", [False, True])
def test_half_sent_requests_are_closed(sent: bytes, after_another: bool) -> None:
    quick = ServerSettings(page=False, header_timeout_s=0.3, grace_s=2)
    with live(BrightEngine(), quick) as server, connect(server) as connection:
        if after_another:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 200 " in connection.recv(65536)
            if not sent:
                return  # a connection that is kept for later may wait
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in sent or b"":  # a byte now and then wins no time
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert b" 408 " in answer_of(connection)
        assert time.monotonic() - start < 3


def test_connections_are_counted_before_keys_are_looked_at() -> None:
    few = ServerSettings(page=False, connections=4, api_keys=(KEY,), grace_s=2)
    with live(BrightEngine(), few) as server, contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(connect(server))
        time.sleep(0.2)
        with connect(server) as one_more:
            answer = answer_of(one_more)
        assert b" 503 " in answer
        assert b"Retry-After" in answer
        held.close()
        time.sleep(0.2)
        assert httpx.get(f"{server.url}/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/remove", "image/png"),
        ("/v1/remove", "application/json"),
        ("/v1/remove", "multipart/form-data; boundary=b"),
        ("/v1/remove", "application/x-www-form-urlencoded"),
        ("/v1/batch", "application/zip"),
        ("/v1/video", "video/mp4"),
        ("/api/remove", "multipart/form-data; boundary=b"),
        ("/v1.0/removebg", "multipart/form-data; boundary=b"),
        ("/fal-ai/birefnet/v2", "application/json"),
        ("/v1/images/edits", "multipart/form-data; boundary=b"),
    ],
)
def test_a_client_that_leaves_while_sending_is_no_error(
    path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live(BrightEngine()) as server:
        with connect(server) as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
                "Content-Length: 100000\r\n\r\n--b\r\nfew".encode()
            )
            time.sleep(0.15)
        deadline = time.monotonic() + 5
        while 'status="499"' not in (text := httpx.get(f"{server.url}/metrics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        assert 'status="500"' not in text
        assert 'status="400"' not in text
    assert not [record for record in caplog.records if record.exc_info]


# Names


@pytest.mark.parametrize(
    ("host", "lets_in"),
    [
        ("cut.example.org", True),
        ("CUT.example.org:8443", True),
        ("a.example.net", True),
        ("example.net", False),
        ("evil.example.org", False),
        ("cut.example.org.evil.com", False),
        ("cut.example.org@evil.com", False),
    ],
)
def test_only_names_that_are_allowed(host: str, lets_in: bool) -> None:
    named = ServerSettings(page=False, allowed_hosts=("cut.example.org", "*.example.net"))
    with serving(named) as client:
        answer = client.get("/v1/models", headers={"host": host})
        assert answer.status_code == (200 if lets_in else 400)
        assert client.get("/health", headers={"host": host.partition("@")[0]}).status_code == 200


@pytest.mark.parametrize("host", ['a"b', "a/b", "a b", "<a>", "a@b", "a\\b", "[::1", "x" * 300])
def test_what_is_no_name_is_never_repeated(host: str) -> None:
    with serving() as client:
        answer = client.post(
            "/queue/fal-ai/birefnet/v2", json={"image_url": "a"}, headers={"host": host}
        )
        assert answer.status_code >= 400
        assert host not in answer.text


# Pixels and memory


def tall_file(height: int = 400_000, width: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).convert("1").save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (30_000, 2), (1, 1), (2, 1)])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "overlay"},
        {"kind": "blur"},
        {"matting": "guided"},
        {"objects": "true", "answer": "json"},
        {"crop": "true"},
        {"mask_blur": "64"},
        {"shadow": "drop"},
        {"passes": "2"},
        {"boxes": "0,0,1,1"},
    ],
)
def test_narrow_pictures_are_answered(size: tuple[int, int], fields: dict[str, str]) -> None:
    with serving() as client:
        white = Image.fromarray(np.full(size, 255, np.uint8))
        buffer = io.BytesIO()
        white.save(buffer, "png")
        answer = client.post("/v1/remove", files={"file": buffer.getvalue()}, data=fields)
        assert answer.status_code < 500, answer.text


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=25),
    cancelled=st.sets(st.integers(0, 24)),
    most=st.integers(1, 10),
)
def test_a_budget_is_kept_and_nobody_is_forgotten(
    sizes: list[int], cancelled: set[int], most: int
) -> None:
    async def work() -> None:
        budget, inside, done = PixelBudget(most), [], []

        async def one(number: int, pixels: int) -> None:
            async with budget.hold(pixels):
                inside.append(pixels)
                assert sum(inside) <= most or len([size for size in inside if size]) == 1
                try:
                    await asyncio.sleep(0)
                finally:
                    inside.remove(pixels)
            done.append(number)

        tasks = [asyncio.create_task(one(*item)) for item in enumerate(sizes)]
        await asyncio.sleep(0)
        for number in cancelled & set(range(len(sizes))):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.held == 0
        assert set(range(len(sizes))) - cancelled <= set(done)

    asyncio.run(asyncio.wait_for(work(), 10))


def test_what_grows_beyond_the_budget_is_refused() -> None:
    async def work() -> None:
        budget = PixelBudget(100)
        async with budget.hold(40) as first, budget.hold(40):
            first(20)
            with pytest.raises(Overloaded):
                first(1)
            first(-5)
            assert budget.held == 100
        async with budget.hold(40) as alone:
            alone(460)
        assert budget.held == 0

    asyncio.run(work())


def test_pictures_wait_for_others_pixels() -> None:
    """Three of 3,000 pixels each never lie there together, and all are answered."""
    tight = ServerSettings(page=False, max_pixels=4_000, max_pixels_held=6_500)
    seen = []

    with serving(tight) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        read = service._read

        def watched(*arguments: Any) -> Any:
            seen.append(service.budget.held)
            time.sleep(0.05)
            return read(*arguments)

        service._read = watched
        statuses: list[int] = []

        def ask() -> None:
            files = {"file": disc_file(50, 60)}
            statuses.append(client.post("/v1/remove", files=files).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 6
        assert 3_000 <= max(seen) <= 6_500
        assert service.budget.held == 0


def test_settings_of_the_budget() -> None:
    assert ServerSettings(max_pixels=5).pixels_held == 10
    with pytest.raises(BiRefNetError, match="max_pixels_held is 4"):
        ServerSettings(max_pixels=5, max_pixels_held=4)


class Failing(BrightEngine):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def infer(self, batch: Any) -> Any:
        raise self.error


def no_memory_of_opencv() -> Exception:
    import cv2

    try:
        cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**30))
    except cv2.error as error:
        return error
    return MemoryError()


@pytest.mark.parametrize("make", [MemoryError, no_memory_of_opencv])
@pytest.mark.parametrize(
    "path", ["/v1/remove", "/api/remove", "/v1.0/removebg", "/v1/images/edits"]
)
def test_errors_of_memory_are_503(
    make: Callable[[], Exception], path: str, caplog: pytest.LogCaptureFixture
) -> None:

    from starlette.testclient import TestClient

    from birefnet.serving.app import create_app

    app = create_app(Predictor(Failing(make()), PLAIN, name="a"), ServerSettings(page=False))
    field = {"/v1.0/removebg": "image_file", "/v1/images/edits": "image"}.get(path, "file")
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post(path, files={field: disc_file()})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "memory" in answer.text
    assert not [record for record in caplog.records if record.exc_info]


# Disk


def uri_of(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "/var/secret/place")


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (tempfile.SpooledTemporaryFile, "write"),
        (tempfile, "TemporaryFile"),
        (tempfile, "mkdtemp"),
        (tempfile, "TemporaryDirectory"),
        (shutil, "copyfileobj"),
        (Path, "mkdir"),
        (Path, "write_bytes"),
    ],
)
def test_a_full_disk_is_said_in_one_sentence(
    where: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    picture = disc_file()
    gif = disc_file(format="gif")
    with serving() as client:
        monkeypatch.setattr(where, name, full)
        answers = [
            client.post("/v1/remove", content=picture, headers={"content-type": "image/png"}),
            client.post("/v1/remove", files={"file": picture}),
            client.post("/api/remove", files={"file": picture}),
            client.post("/v1.0/removebg", files={"image_file": picture}),
            client.post("/v1/batch", files={"file": zip_of({"a.png": picture})}),
            client.post("/v1/images/edits", files={"image": picture}),
            client.post(
                "/v1/images/edits", files={"image": picture}, data={"response_format": "url"}
            ),
            client.post("/v1/video", files={"file": gif}),
            client.post("/fal-ai/birefnet/v2", json={"image_url": uri_of(picture)}),
            client.post("/fal-ai/birefnet/v2/video", json={"video_url": uri_of(gif)}),
        ]
        monkeypatch.undo()
    for answer in answers:
        assert answer.status_code in (200, 202, 507), answer.text
        assert "/var/secret" not in answer.text
        if answer.status_code == 507:
            assert "disk is full" in answer.text
    assert any(answer.status_code == 507 for answer in answers)
    assert not [record for record in caplog.records if record.exc_info]


# Zips


def zip64_of(count: int) -> bytes:
    """A zip of so many files, of which the old record knows one; the ZIP64 record counts."""
    data = zip_of({f"{number}.png": b"" for number in range(count)})
    at = data.rindex(b"PK\x05\x06")
    size, offset = struct.unpack_from("<LL", data, at + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 50, offset, 0)
    return data[:at] + record + locator + end


def test_tables_of_zip64_count(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ServerSettings(max_entries=20)
    assert len(zipfile.ZipFile(io.BytesIO(zip64_of(2_000))).namelist()) == 2_000
    assert len(Unzipped(io.BytesIO(zip64_of(3)), few).entries) == 3

    many = zip64_of(2_000)

    def read(*_: Any) -> Any:
        raise AssertionError("the table was read")

    monkeypatch.setattr(zipfile, "ZipFile", read)
    with pytest.raises(TooLarge):
        Unzipped(io.BytesIO(many), few)


# Others' jobs


@pytest.fixture
def two_clients() -> Iterator[tuple[Any, dict[str, str], dict[str, str]]]:
    with serving(ServerSettings(page=False, api_keys=(KEY, OTHER_KEY))) as client:
        yield client, {"X-Api-Key": KEY}, {"Authorization": f"Bearer {OTHER_KEY}"}


def test_a_job_belongs_to_the_key_that_began_it(two_clients: Any) -> None:
    pytest.importorskip("av")
    client, own, other = two_clients
    job = client.post("/v1/video", files={"file": disc_file(format="gif")}, headers=own).json()
    for method, path in (
        ("GET", ""), ("GET", "/result"), ("GET", "/mask"), ("DELETE", ""),
    ):  # fmt: skip
        assert (
            client.request(method, f"/v1/video/{job['id']}{path}", headers=other).status_code == 404
        )
    assert client.get(f"/v1/video/{job['id']}", headers=own).status_code == 200
    fal = "/queue/fal-ai/birefnet"
    request = client.post(f"{fal}/v2", json={"image_url": "data:,"}, headers=own).json()
    for method, path in (
        ("GET", ""),
        ("GET", "/status"),
        ("GET", "/status/stream"),
        ("PUT", "/cancel"),
    ):
        url = f"{fal}/requests/{request['request_id']}{path}"
        assert client.request(method, url, headers=other).status_code == 404
    assert client.get(f"{fal}/requests/{request['request_id']}/status", headers=own).is_success
    assert client.delete(f"/v1/video/{job['id']}", headers=own).status_code == 204


# Addresses


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "255.255.255.255/32", "::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96",
        "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:2::/48",
        "2001:10::/28", "2001:20::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
        "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "::8.8.8.8/128", "4000::/3", "::/8",
    ],
)  # fmt: skip
def test_no_address_of_the_special_registries_is_public(network: str) -> None:
    first = ipaddress.ip_network(network)
    for address in (
        first[0],
        first[-1],
        first[first.num_addresses // 2],
        first[first.num_addresses // 3],
    ):
        assert not is_public(address), address


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "192.0.1.1", "2606:2800::1"])
def test_other_addresses_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# The end


def test_ready_says_that_the_server_stops_while_work_is_finished() -> None:
    engine = SlowEngine()
    with live(engine, ServerSettings(page=False, grace_s=10)) as server:
        answers = []

        def ask() -> None:
            files = {"file": disc_file()}
            answers.append(httpx.post(f"{server.url}/v1/remove", files=files, timeout=20))

        asking = threading.Thread(target=ask)
        asking.start()
        assert engine.began.wait(10)
        server.stop()
        deadline = time.monotonic() + 5
        while (ready := httpx.get(f"{server.url}/ready")).status_code != 503:
            assert time.monotonic() < deadline
        assert ready.json() == {"status": "stopping"}
        assert httpx.get(f"{server.url}/health").status_code == 200
        refused = httpx.post(f"{server.url}/v1/remove", files={"file": disc_file()})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        engine.go.set()
        asking.join(10)
        assert answers[0].status_code == 200
        server.thread.join(10)
        assert not server.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/ready")


if sys.platform == "win32":
    pytestmark = pytest.mark.skip(reason="signals and sockets of POSIX")
