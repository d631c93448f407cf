"""Everything that can be set about a server, checked before it starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from birefnet.errors import UsageError, counted
from birefnet.imaging.picture import usual_pixels
from birefnet.presets import PRESETS, Preset

MIB = 2**20
_LEAST: dict[str, float] = {
    **dict.fromkeys(("queue", "max_pixels", "max_frames", "max_entries", "jobs", "video_jobs"), 1),
    **dict.fromkeys(("max_bytes", "max_json", "connections", "max_upload", "max_held"), 1),
    **dict.fromkeys(("max_unzipped", "max_zip_ratio", "batch", "workers"), 1),
    **dict.fromkeys(("wait_ms", "grace_s", "keep_s", "redirects", "port", "memory_budget"), 0),
    **dict.fromkeys(("timeout_s", "fetch_timeout_s", "body_timeout_s", "header_timeout_s"), 0.001),
    "max_resolution": 32,
    "max_header": 1024,
}
SHORTEST_KEY = 16  # characters; shorter ones can be guessed


@dataclass(frozen=True)
class ServerSettings:
    """How a server listens, what it accepts and how much it does at once.

    Attributes:
        host, port: where it listens; 127.0.0.1 is reachable from this machine alone.
        api_keys: any of them opens the routes; none given: no key is asked for.
        cors: origins whose pages may call it, such as "https://example.org"; "*" for all.
        page: serve the web page at `/`, where the extra `ui` is installed.
        model: the default model, see `birefnet.load`; None for BIREFNET_MODEL or `nano`.
        models: others that requests may name: names of `birefnet models list`, or NAME=PATH. The
            bundled models are always among them; "all" stands for every released network. Nothing
            else can be asked for, so that no request opens a file or downloads what it likes.
        strict_models: refuse the names that clients of other services send by themselves, such as
            gpt-image-1 or u2net; otherwise the default model answers them.
        presets: options that requests may name, see `birefnet.presets.read_presets`.
        device, dtype, engine: of every model, see `birefnet.load`.
        preload: load the default model before the first request.
        memory_budget: bytes that all loaded models may take; those used last stay.
        batch: pictures of one size that run together at most; None leaves it to the engine.
        wait_ms: how long a picture waits for others to share its batch, where batches pay.
        queue: requests that are worked on or wait; one more is answered 429.
        workers: threads that decode, and as many that encode; None for one a core, 8 at most.
        timeout_s: from a request's arrival at the queue to its answer; longer is answered 503.
        grace_s: what a shutdown waits for requests under way.
        max_bytes: of a request's body, of a picture in a zip, and of a fetched picture.
        max_json: bytes of a body of JSON: a parser holds up all other requests while it works.
        max_upload: bytes of a zip or video instead.
        max_held: bytes of all bodies in memory together; beyond it requests are answered 429.
        body_timeout_s: between two parts of a body; a client that is slower is answered 408.
        max_header: bytes of a request's line and headers; longer ones are answered 431.
        header_timeout_s: for these to arrive; a connection that is slower is closed.
        connections: open at the same time; one more is answered 503 and closed.
        allowed_hosts: names by which requests may call the server (their `Host`), such as
            "cut.example.org" or "*.example.org"; none: by any.
        max_pixels: of a picture; 50 million, or what BIREFNET_MAX_MEGAPIXELS says in the
            environment.
        max_pixels_held: of all pictures together that are decoded; the next waits for its turn, and
            is answered 503 if that does not come. `None` for twice `max_pixels`. A picture needs up
            to 200 bytes for each of its pixels, whatever its shape.
        max_resolution: sides of the network's input multiply to at most the square of this [px].
        max_frames: of an animation or video.
        max_entries: files in a zip.
        max_unzipped: bytes that all files in a zip may expand to.
        max_zip_ratio: of a file's size to its size in the zip, where that is over a megabyte.
        fetch: whether requests may name URLs.
        fetch_hosts: names or networks that may be fetched from even though they are private.
        fetch_timeout_s: for the whole of a fetched file.
        redirects: followed at most.
        video_jobs: videos that run at the same time.
        jobs: background jobs that wait or run; one more is answered 429.
        keep_s: how long a finished job and its result are kept.
        jobs_folder: where uploads and results of jobs lie; None for the system's temporary folder.
        root_path: the path under which a proxy publishes the server.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors: tuple[str, ...] = ()
    page: bool = True
    model: str | None = None
    models: tuple[str, ...] = ()
    strict_models: bool = False
    presets: Mapping[str, Preset] = field(default_factory=PRESETS.copy)
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    preload: bool = True
    memory_budget: int = 4 * 1024 * MIB
    batch: int | None = None
    wait_ms: float = 5.0
    queue: int = 64
    workers: int | None = None
    timeout_s: float = 120.0
    grace_s: float = 30.0
    max_bytes: int = 64 * MIB
    max_json: int = 16 * MIB
    max_upload: int = 512 * MIB
    max_held: int = 1024 * MIB
    body_timeout_s: float = 30.0
    max_header: int = 64 * 1024
    header_timeout_s: float = 10.0
    connections: int = 1_000
    allowed_hosts: tuple[str, ...] = ()
    max_pixels: int = field(default_factory=partial(usual_pixels, 50))
    max_pixels_held: int | None = None
    max_resolution: int = 2304
    max_frames: int = 3_000
    max_entries: int = 1_000
    max_unzipped: int = 1024 * MIB
    max_zip_ratio: float = 100.0
    fetch: bool = True
    fetch_hosts: tuple[str, ...] = ()
    fetch_timeout_s: float = 20.0
    redirects: int = 4
    video_jobs: int = 1
    jobs: int = 16
    keep_s: float = 3600.0
    jobs_folder: str | None = None
    root_path: str = ""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{name} is {value}; give {least:g} or more")
        if self.max_pixels_held is not None and self.max_pixels_held < self.max_pixels:
            raise UsageError(
                f"max_pixels_held is {self.max_pixels_held:,}; give at least max_pixels, "
                f"{self.max_pixels:,}"
            )
        if self.port > 65535:
            raise UsageError(f"port is {self.port}; give 0 (any free one) to 65535")
        for key in self.api_keys:
            if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(
                    f"an API key has {counted(len(key), 'character')}; give {SHORTEST_KEY} or "
                    "more of ASCII "
                    "without spaces, such as the output of `openssl rand -hex 24`"
                )
        for origin in self.cors:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise UsageError(
                    f"cors names {origin!r}; give origins such as https://example.org, or *"
                )

    @property
    def pixels_held(self) -> int:
        """`max_pixels_held`, or what stands for it."""
        return self.max_pixels_held or 2 * self.max_pixels

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    def shown(self) -> dict[str, Any]:
        """All of it as plain values, without the keys."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["api_keys"] = len(self.api_keys)
        values["presets"] = list(self.presets)
        return values
