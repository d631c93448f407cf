"""What surrounds the routes: keys, origins, sizes, figures, and the command."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import typer

import birefnet
from birefnet.cli.serve import parse_size, read_keys
from birefnet.errors import BiRefNetError
from birefnet.serving.running import bind
from birefnet.serving.settings import ServerSettings
from compat_client import KEY, disc_file, serving
from fakes import BrightEngine
from live_server import live

LOCKED = ServerSettings(page=False, api_keys=("another-key-of-24-letters", KEY))


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "opens"),
    [
        ({}, False),
        ({"X-Api-Key": KEY}, True),
        ({"Authorization": f"Bearer {KEY}"}, True),
        ({"Authorization": f"Key {KEY}"}, True),
        ({"Authorization": basic(KEY)}, True),
        ({"X-Api-Key": KEY[:-1]}, False),
        ({"X-Api-Key": ""}, False),
        ({"X-Api-Key": "schlüssel".encode("latin-1")}, False),
        ({"Authorization": "Bearer"}, False),
        ({"Authorization": "Basic !!!"}, False),
        ({"Authorization": basic("wrong")}, False),
    ],
)
def test_keys_open_every_route(headers: dict[str, Any], opens: bool) -> None:
    with serving(LOCKED) as client:
        for path in ("/v1/models", "/metrics", "/docs", "/openapi.json"):
            assert client.get(path, headers=headers).status_code == (200 if opens else 401)
        answer = client.post("/v1/remove", files={"file": disc_file()}, headers=headers)
        assert answer.status_code == (200 if opens else 401)
        if not opens:
            assert answer.json()["error"]["code"] == "unauthorised"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200


def test_browsers_are_asked_for_a_password() -> None:
    with serving(LOCKED) as client:
        answer = client.get("/docs", headers={"accept": "text/html,*/*"})
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_the_documentation_takes_nothing_from_elsewhere() -> None:
    with serving() as client:
        html = client.get("/docs").text
        assert "http" not in html
        files = re.findall(r'(?:src|href)="([^"]+)"', html)
        assert len(files) >= 3
        for file in files:
            assert client.get(file).status_code == 200


def test_keys_are_shown_nowhere() -> None:
    assert KEY not in repr(LOCKED)
    assert KEY not in str(LOCKED.shown())


def test_other_origins_are_let_in_only_by_name() -> None:
    origin = {"Origin": "https://shop.example"}
    asks = {**origin, "Access-Control-Request-Method": "POST"}
    with serving() as client:
        assert "access-control-allow-origin" not in client.get("/health", headers=origin).headers
    settings = ServerSettings(page=False, cors=("https://shop.example",), api_keys=(KEY,))
    with serving(settings) as client:
        allowed = client.options("/v1/remove", headers=asks)
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        other = client.options("/v1/remove", headers={**asks, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_bodies_are_limited_before_and_while_they_come() -> None:
    settings = ServerSettings(page=False, max_bytes=20_000, max_upload=50_000)
    sent = []

    def endless() -> Any:
        for _ in range(1000):
            sent.append(1000)
            yield bytes(1000)

    with serving(settings) as client:
        answer = client.post("/v1/remove", content=bytes(20_001))
        assert answer.status_code == 413
        assert "20,000 bytes" in answer.json()["error"]["message"]
        streamed = client.post(
            "/v1/remove", content=endless(), headers={"content-type": "image/png"}
        )
        assert streamed.status_code == 413
        zipped = client.post("/v1/batch", files={"file": bytes(30_000)})
        assert zipped.status_code == 400  # within its own limit, but no zip
        assert client.post("/v1/batch", files={"file": bytes(60_000)}).status_code == 413
        assert client.post("/v1/remove", files={"file": disc_file()}).status_code == 200


def test_a_body_that_never_comes_is_given_up() -> None:
    settings = ServerSettings(page=False, body_timeout_s=0.3, grace_s=2)
    with live(BrightEngine(), settings) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/remove HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nfew"
            )
            assert b" 408 " in connection.recv(4096)


def test_figures_for_prometheus() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    with serving() as client:
        for _ in range(3):
            client.post("/v1/remove", files={"file": disc_file()})
        client.post("/v1/remove", files={"file": b"no picture"})
        client.get("/nowhere")
        families = parser.text_string_to_metric_families(client.get("/metrics").text)
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
    route = (("method", "POST"), ("route", "/v1/remove"))
    assert samples["birefnet_requests_total", (*route, ("status", "200"))] == 3
    assert samples["birefnet_requests_total", (*route, ("status", "400"))] == 1
    other = (("method", "GET"), ("route", "other"), ("status", "404"))
    assert samples["birefnet_requests_total", other] == 1
    assert samples["birefnet_pictures_total", (("model", "bright"),)] == 3
    assert samples["birefnet_queue_requests", ()] == 0
    assert samples["birefnet_batch_pictures_count", (("model", "bright"),)] == 3
    assert samples["birefnet_request_seconds_count", (("route", "/v1/remove"),)] == 4
    assert samples["process_resident_memory_bytes", ()] > 0


def test_status_routes() -> None:
    with serving() as client:
        assert client.get("/health").json() == {"status": "ok", "version": birefnet.__version__}
        assert client.get("/ready").json() == {"status": "ready"}
        client.app.state.service.is_stopping = True  # type: ignore[attr-defined]
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        busy = client.post("/v1/remove", files={"file": disc_file()})
        assert busy.status_code == 503
        assert busy.headers["retry-after"]


def test_head_answers_as_get_without_a_body() -> None:
    """Each route that GET has, those of the page included: the same status and headers."""
    settings = ServerSettings(page=importlib.util.find_spec("gradio") is not None)
    with serving(settings) as client:
        described = client.get("/openapi.json").json()["paths"]
        paths = [
            re.sub(r"\{[^}]*\}", "x", path)
            for path, methods in described.items()
            if "get" in methods
        ]
        assert "/health" in paths
        paths += ["/docs", "/openapi.json", "/nowhere", "/v1/remove", "/v1/batch"]
        if settings.page:
            paths += ["/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/page/x/y"]
        for path in paths:
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code, path
            assert head.content == b"", path
            assert head.headers["content-type"] == got.headers["content-type"], path
            if path not in ("/", "/config", "/metrics"):  # whose length varies
                length = got.headers.get("content-length")
                assert head.headers.get("content-length") == length, path
        counted = client.get("/metrics").text
        assert 'method="HEAD",route="/health",status="200"' in counted.replace(", ", ",")


def test_every_answer_has_an_id_and_cannot_be_sniffed() -> None:
    with serving() as client:
        first, second = client.get("/health"), client.get("/nowhere")
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert second.headers["x-content-type-options"] == "nosniff"
        assert second.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"api_keys": ("short",)}, "5 characters"),
        ({"api_keys": ("with spaces in it and long",)}, "without spaces"),
        ({"cors": ("example.org",)}, "https://example.org"),
        ({"queue": 0}, "queue is 0"),
        ({"port": 70000}, "port is 70000"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"max_resolution": 16}, "max_resolution is 16"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_settings_refuse_what_makes_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BiRefNetError, match=says):
        ServerSettings(**settings)


@pytest.mark.parametrize(
    ("host", "public"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("a.b", True)],
)
def test_which_hosts_are_public(host: str, public: bool) -> None:
    assert ServerSettings(host=host).is_public is public


def test_keys_come_from_files_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# for the shop\n{KEY}\n\n  second-key-with-letters \n", encoding="utf-8")
    keys = read_keys(file, {"BIREFNET_API_KEYS": f"third-key-with-letters, {KEY}"})
    assert keys == (KEY, "second-key-with-letters", "third-key-with-letters")
    assert read_keys(None, {}) == ()


def test_sizes_are_read_as_people_write_them() -> None:
    assert parse_size("64M", "--x") == parse_size("64 MiB", "--x") == 64 * 2**20
    assert parse_size("1.5G", "--x") == 3 * 2**29
    assert parse_size("1000", "--x") == 1000
    with pytest.raises(typer.BadParameter, match="--x"):
        parse_size("much", "--x")


def test_a_taken_port_is_said_plainly() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BiRefNetError, match=f"port {port} is taken"):
            bind("127.0.0.1", port)
    with pytest.raises(BiRefNetError, match="cannot listen"):
        bind("203.0.113.1", 0)


def test_answers_are_not_held_back_for_the_next_packet() -> None:
    """Without TCP_NODELAY an answer waits 40 ms for the client's acknowledgement of its header."""

    async def option_of_a_connection() -> int:
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.put_nowait(transport.get_extra_info("socket"))

        listening = bind("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Protocol, sock=listening)
        async with server:
            _, writer = await asyncio.open_connection(*listening.getsockname())
            option = (await accepted.get()).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            await writer.wait_closed()
        return option

    assert asyncio.run(option_of_a_connection())


def test_the_command_says_errors_in_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "birefnet", "serve", "--model", "no-such-model", "-p", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no model is called 'no-such-model'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_serves_and_ends_at_sigterm() -> None:
    command = [sys.executable, "-m", "birefnet", "serve", "-p", "0", "--no-page", "--engine"]
    server = subprocess.Popen([*command, "torch"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "listens at http://127.0.0.1:" in line:
                break
        assert "listens" in lines[-1], lines
        time.sleep(0.2)
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()


def test_every_option_of_the_command_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from birefnet.cli.main import app

    started: list[ServerSettings] = []
    monkeypatch.setattr(
        "birefnet.cli.serve.run_server", lambda settings, *_: started.append(settings)
    )
    for arguments in ([], ["--strict-models", "--also", "u2net=nano", "--no-page"]):
        done = CliRunner().invoke(app, ["serve", *arguments])
        assert done.exit_code == 0, done.output
    usual, other = started
    assert (usual.strict_models, usual.models, usual.page) == (False, (), True)
    assert (other.strict_models, other.models, other.page) == (True, ("u2net=nano",), False)
