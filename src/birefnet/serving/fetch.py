"""Fetch a file from a URL that a stranger named, without reaching what is private.

Every name is resolved here, all its addresses are judged, and the connection is made to the very
address that was judged: a name that resolves differently a moment later (DNS rebinding) gains
nothing. Redirects are followed by hand, and each is judged in the same way. Proxies of the
environment are not used, for they would resolve the name again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable

from birefnet.errors import counted, needs_extra

with needs_extra("serve", __name__):
    import httpx

from birefnet.serving.errors import FetchError, TooLarge
from birefnet.serving.settings import ServerSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_URL = 4096
_LONGEST_HOST = 253  # of DNS
_USER_AGENT = "birefnet"


async def fetch(
    url: str,
    settings: ServerSettings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> bytes:
    """The file at an http or https URL.

    Args:
        url: what was asked for.
        settings: limits, and the private hosts that are allowed.
        transport: instead of the network, for tests.

    Raises:
        FetchError: another scheme, an address that is not public, a server that does not answer
            or answers with an error, too many redirects, or too much time.
        TooLarge: more bytes than allowed.
    """
    data = bytearray()
    await fetch_into(url, data.extend, settings, max_bytes=settings.max_bytes, transport=transport)
    return bytes(data)


async def fetch_into(
    url: str,
    write: Callable[[bytes], object],
    settings: ServerSettings,
    *,
    max_bytes: int | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:
    """As `fetch`, but gives the file part by part; the limit is that of uploads."""
    if not settings.fetch:
        raise FetchError("this server fetches no URLs; send the file itself")
    limit = max_bytes or settings.max_upload
    try:
        await asyncio.wait_for(
            _follow(url, write, settings, limit, transport), settings.fetch_timeout_s
        )
    except TimeoutError:
        raise FetchError(
            f"the URL did not give its file within {settings.fetch_timeout_s:g} s"
        ) from None


async def _follow(
    url: str,
    write: Callable[[bytes], object],
    settings: ServerSettings,
    limit: int,
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    target = parse_url(url)
    async with httpx.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=False, timeout=None
    ) as client:
        for _ in range(settings.redirects + 1):
            port = target.port or (443 if target.scheme == "https" else 80)
            address = await checked_address(target.host, port, settings.fetch_hosts)
            location = await _get(client, target, address, write, limit)
            if location is None:
                return
            target = parse_url(str(target.join(location)))
    raise FetchError(f"the URL redirects more than {counted(settings.redirects, 'time')}")


async def _get(
    client: httpx.AsyncClient,
    target: httpx.URL,
    address: Address,
    write: Callable[[bytes], object],
    limit: int,
) -> str | None:
    """None once the body is written, or where a redirect points."""
    # The connection goes to the judged address; name and certificate stay those of the host.
    pinned = target.copy_with(host=str(address))
    headers = {
        "Host": target.netloc.decode("ascii"),
        "User-Agent": _USER_AGENT,
        "Accept": "*/*",
        # A compressed answer could expand beyond all limits before it is counted.
        "Accept-Encoding": "identity",
    }
    extensions = {"sni_hostname": target.raw_host.decode("ascii")}
    try:
        async with client.stream("GET", pinned, headers=headers, extensions=extensions) as answer:
            if answer.has_redirect_location:
                return answer.headers["Location"]
            if answer.status_code != 200:
                raise FetchError(f"the URL's server answered {answer.status_code}")
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchError("the URL's server compresses its answer, though asked not to")
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) > limit:
                raise TooLarge(f"the file at the URL is larger than {limit:,} bytes, the limit")
            received = 0
            async for chunk in answer.aiter_raw():
                received += len(chunk)
                if received > limit:
                    raise TooLarge(f"the file at the URL is larger than {limit:,} bytes, the limit")
                write(chunk)
            if not received:
                raise FetchError("the file at the URL is empty")
            return None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise FetchError(
            f"the URL could not be fetched: {type(error).__name__} from {target.host}"
        ) from error


def parse_url(text: str) -> httpx.URL:
    """A URL of http or https with a host and without credentials.

    Raises:
        FetchError: anything else.
    """
    if len(text) > _LONGEST_URL:
        raise FetchError(
            f"the URL has {counted(len(text), 'character')}; at most {_LONGEST_URL} are accepted"
        )
    try:
        url = httpx.URL(text.strip())
        host = url.host  # decodes international names, which may fail
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise FetchError("the URL cannot be understood; give http://… or https://…") from None
    if url.scheme not in ("http", "https"):
        raise FetchError("only http and https URLs are fetched; send other files themselves")
    if not host:
        raise FetchError("the URL names no host")
    if len(host) > _LONGEST_HOST:
        raise FetchError("the URL's host has a name that is too long")
    if url.port is not None and not 0 < url.port < 65536:
        raise FetchError(f"the URL's port is {url.port}; ports go from 1 to 65535")
    if url.userinfo:
        raise FetchError("URLs with a user name or password are not fetched")
    return url


async def checked_address(host: str, port: int, allowed: Iterable[str] = ()) -> Address:
    """An address of the host that may be fetched from; if any is private, none may.

    Raises:
        FetchError: the host is unknown, or (one of) its addresses is not public.
    """
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError(f"the URL's host {host!r} is unknown") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
    if not addresses:
        raise FetchError(f"the URL's host {host!r} is unknown")
    if not all(is_public(address) or _is_allowed(host, address, allowed) for address in addresses):
        raise FetchError(f"the URL's host {host!r} has an address that is not public")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address is of the open internet: not private, loopback, link-local (where clouds
    keep their metadata), shared, multicast, reserved, or one of these hidden in IPv6."""
    if address.version == 6 and address not in _UNICAST_6:
        return False
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


# Everything else of IPv6 is unassigned, local, or IPv4 in disguise (mapped, compatible, NAT64).
_UNICAST_6 = ipaddress.ip_network("2000::/3")

# What IANA's registries of special-purpose addresses hold and do not call globally reachable, and
# what wraps an IPv4 address (6to4, Teredo). Python knows them too, but each version others.
# https://www.iana.org/assignments/iana-ipv4-special-registry (and ipv6), read in November 2026.
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)


def _is_allowed(host: str, address: Address, allowed: Iterable[str]) -> bool:
    for entry in allowed:
        if entry.lower() == host.lower():
            return True
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except (ValueError, TypeError):
            continue
    return False
