"""URLs of strangers: nothing private is reached, by whatever detour."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx

from birefnet.serving.errors import FetchError, ServingError, TooLarge
from birefnet.serving.fetch import fetch, is_public
from birefnet.serving.settings import ServerSettings

PUBLIC = "93.184.216.34"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Which addresses each host has: a list for each time it is asked, the last for ever."""
    table: dict[str, list[list[str]]] = {"example.org": [[PUBLIC]]}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        if host not in table:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise socket.gaierror(f"no {host}") from None
            return real(host, port, *rest, **named)
        answers = table[host]
        address_list = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (item, port)) for item in address_list]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def answered(data: bytes, status: int = 200, **headers: str) -> Any:
    """A response whose body is still to come, as from a network."""

    async def body() -> AsyncIterator[bytes]:
        yield data

    return httpx.Response(status, content=body(), headers=headers)


def get(
    url: str,
    handler: Callable[[Any], Any] = lambda request: answered(b"data"),
    settings: ServerSettings | None = None,
) -> bytes:
    settings = settings or ServerSettings()
    return asyncio.run(fetch(url, settings, transport=httpx.MockTransport(handler)))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "0.0.0.0", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
        "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1",
        "2002:7f00:1::", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2001:0:7f00:1::", "2001:db8::1", "fec0::1",
    ],
)  # fmt: skip
def test_what_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", [PUBLIC, "1.1.1.1", "2606:4700::1111"])
def test_what_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_a_file_comes_from_the_address_that_was_judged(names: Any) -> None:
    seen = []

    def answer(request: Any) -> Any:
        seen.append((str(request.url), request.headers["host"], request.extensions))
        return answered(b"picture")

    assert get("https://example.org/a.png?b=c", answer) == b"picture"
    url, host, extensions = seen[0]
    assert url == f"https://{PUBLIC}/a.png?b=c"
    assert host == "example.org"
    assert extensions["sni_hostname"] == "example.org"


def test_a_name_that_changes_gains_nothing(names: Any) -> None:
    """DNS rebinding: public when judged, private a moment later."""
    names["rebind.org"] = [[PUBLIC], ["127.0.0.1"]]
    seen = []

    def answer(request: Any) -> Any:
        seen.append(request.url.host)
        return answered(b"x")

    get("http://rebind.org/", answer)
    assert seen == [PUBLIC]
    with pytest.raises(FetchError, match="not public"):
        get("http://rebind.org/", answer)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/", "http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest",
        "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/",
        "http://mixed.org/", "http://0/",
    ],
)  # fmt: skip
def test_private_hosts_are_refused(names: Any, url: str) -> None:
    names["localhost"] = [["127.0.0.1"]]
    names["mixed.org"] = [[PUBLIC, "10.0.0.7"]]
    with pytest.raises(FetchError):
        get(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/a", "only http and https"),
        ("gopher://example.org/a", "only http and https"),
        ("data:image/png;base64,AAAA", "only http and https"),
        ("/etc/passwd", "only http and https"),
        ("", "only http and https"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://user:secret@example.org/", "user name"),
        ("http://nowhere.invalid/", "unknown"),
        ("http://exa mple.org/", "http"),
        ("http://example.org:99999/", "port is 99999"),
        ("http://" + "a" * 5000, "5,007 characters"),
        ("http://\x00/", "http"),
    ],
)
def test_other_urls_are_refused_in_one_sentence(names: Any, url: str, says: str) -> None:
    with pytest.raises(FetchError) as caught:
        get(url)
    assert says in str(caught.value) or "unknown" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_redirects_are_judged_one_by_one(names: Any) -> None:
    names["other.org"] = [["1.1.1.1"]]
    names["inside.org"] = [["10.1.2.3"]]

    def to(place: str) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            if request.url.path == "/start":
                return httpx.Response(302, headers={"location": place})
            return answered(request.url.host.encode())

        return answer

    assert get("http://example.org/start", to("http://other.org/end")) == b"1.1.1.1"
    assert get("http://example.org/start", to("/end")) == PUBLIC.encode()
    for place in ("http://inside.org/", "http://127.0.0.1/", "file:///etc/passwd", "//[::1]/"):
        with pytest.raises(FetchError):
            get("http://example.org/start", to(place))
    with pytest.raises(FetchError, match="redirects more than 4"):
        get("http://example.org/start", to("/start"))


def test_sizes_are_limited_while_the_file_comes(names: Any) -> None:
    settings = ServerSettings(max_bytes=1000)
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(500)
            yield b"x" * 500

    def answer(request: Any) -> Any:
        return httpx.Response(200, content=endless())

    with pytest.raises(TooLarge, match="1,000"):
        get("http://example.org/", answer, settings)
    assert len(sent) < 10
    announced = {"content-length": "1001"}
    with pytest.raises(TooLarge):
        get("http://example.org/", lambda r: httpx.Response(200, headers=announced), settings)


def test_time_is_limited(names: Any) -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    settings = ServerSettings(fetch_timeout_s=0.3)
    with pytest.raises(FetchError, match=r"within 0\.3 s"):
        get("http://example.org/", lambda r: httpx.Response(200, content=slow()), settings)


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: httpx.Response(404),
        lambda r: answered(b""),
        lambda r: answered(b"x", 206),
        lambda r: answered(b"x", **{"content-encoding": "gzip"}),
    ],
)
def test_servers_that_do_not_give_the_file(names: Any, answer: Any) -> None:
    with pytest.raises(FetchError):
        get("http://example.org/", answer)


def test_connections_that_fail_tell_little(names: Any) -> None:
    def fail(request: Any) -> Any:
        raise httpx.ConnectError(f"no route to {PUBLIC}")

    with pytest.raises(FetchError) as caught:
        get("http://example.org/", fail)
    assert PUBLIC not in str(caught.value)


def test_private_hosts_can_be_allowed(names: Any) -> None:
    names["files.internal"] = [["10.0.0.9"]]
    names["other.internal"] = [["10.9.0.9"]]
    settings = ServerSettings(fetch_hosts=("files.internal", "192.168.0.0/16"))
    assert get("http://files.internal/", settings=settings) == b"data"
    assert get("http://192.168.3.4/", settings=settings) == b"data"
    with pytest.raises(FetchError):
        get("http://other.internal/", settings=settings)


def test_fetching_can_be_forbidden(names: Any) -> None:
    with pytest.raises(ServingError, match="fetches no URLs"):
        get("http://example.org/", settings=ServerSettings(fetch=False))
