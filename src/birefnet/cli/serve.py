"""`birefnet serve`: background removal over HTTP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    Device,
    Dtype,
    GroupedCommand,
    LogLevel,
    MaxMegapixels,
    Model,
    NetworkConfigText,
    examples,
    setting,
    with_network_config,
    with_options,
)
from birefnet.terminal import say, warn

if TYPE_CHECKING:
    from birefnet.serving.settings import ServerSettings

KEYS = "BIREFNET_API_KEYS"
Host = Annotated[str, typer.Option(help="127.0.0.1: only this machine; 0.0.0.0: everybody.")]
Port = Annotated[
    int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0: any free port.")
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|NAME=PATH",
        help="Another model to choose from; `all` for every released one. It is downloaded at its "
        "first use.",
    ),
]
ApiKeys = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"File with one API key on each line; or set {KEYS} to keys separated by commas. "
        "Browsers ask for a key as password, with any user name. Without keys, everybody has "
        "access.",
        exists=True,
        dir_okay=False,
    ),
]
MaxSize = Annotated[str, typer.Option(metavar="SIZE", help="Largest request with a picture.")]
MaxUpload = Annotated[str, typer.Option(metavar="SIZE", help="Largest zip or video.")]
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


EXAMPLES = examples(
    "birefnet serve",
    "birefnet serve --host 0.0.0.0 --port 80 --api-keys keys.txt",
    "birefnet serve --model general --also all --device cuda --batch 8",
)


def register(app: typer.Typer) -> None:
    app.command(cls=GroupedCommand, epilog=EXAMPLES)(serve)


@dataclass(frozen=True)
class ServeOptions:
    """The command line of `birefnet serve`."""

    model: Model = None
    network_config: NetworkConfigText = None
    also: Also = None
    strict_models: bool = setting(
        False,
        "Refuse the model names of other services' clients, such as u2net or gpt-image-1; "
        "otherwise the default model answers.",
        "--strict-models",
    )
    presets: Path | None = setting(
        None,
        "More presets for requests, in addition to those of `birefnet remove`.",
        metavar="FILE.toml",
        exists=True,
        dir_okay=False,
    )
    host: Host = "127.0.0.1"
    port: Port = 8000
    api_keys: ApiKeys = None
    cors: list[str] | None = setting(
        None,
        "Origin of web pages that may call the server, such as https://a.org.",
        metavar="ORIGIN",
    )
    allowed_host: list[str] | None = setting(
        None,
        "Host name of the server, such as cut.example.org or *.example.org; requests "
        "with other names are refused. Without it, all are accepted.",
        metavar="NAME",
    )
    connections: int = setting(1000, "Most open connections; others get 503.", min=1)
    page: bool = setting(True, "Serve the web page at /, if the extra ui is installed.")
    device: Device = "auto"
    dtype: Dtype = "auto"
    engine: str = setting("auto", "auto, torch, openvino or onnx.", metavar="ENGINE")
    memory: str = setting(
        "4G", "Memory for all loaded models; the most recently used stay.", metavar="SIZE"
    )
    batch: int | None = setting(
        None, "Most pictures in a batch.", min=1, show_default="by the engine"
    )
    wait_ms: float = setting(5.0, "Longest wait of a picture for others of its batch.", min=0)
    queue: int = setting(64, "Most requests that wait or run; others get 429.", min=1)
    workers: int | None = setting(
        None, "Threads for decoding, and as many for encoding.", min=1, show_default="one a core"
    )
    timeout: float = setting(
        120.0, "Longest time for a picture; then the answer is 503.", metavar="S"
    )
    grace: float = setting(30.0, "Longest wait for running work at shutdown.", metavar="S")
    max_size: MaxSize = "64M"
    max_upload: MaxUpload = "512M"
    max_megapixels: MaxMegapixels = 50
    max_megapixels_held: float | None = setting(
        None,
        "Most megapixels of all pictures in work; each needs up to 200 MB.",
        min=0.001,
        show_default="twice --max-megapixels",
    )
    max_resolution: int = setting(
        2304, "Largest input of the network, as side of a square.", min=32
    )
    max_frames: int = setting(3000, "Most frames of a video.", min=1)
    fetch: bool = setting(True, "Accept URLs of pictures on the internet.")
    fetch_host: list[str] | None = setting(
        None, "Private host or network that URLs may name.", metavar="HOST|NETWORK"
    )
    root_path: str = setting(
        "", "Path at which a proxy publishes the server, such as /cutout.", metavar="PATH"
    )
    log_level: LogLevel = setting(
        "info", "warning, or info for one line per request.", metavar="LEVEL"
    )


@with_options()
def serve(options: ServeOptions) -> None:
    """Serve background removal over HTTP at http://127.0.0.1:8000; Ctrl-C stops it.

    /docs describes every route. Requests are batched as they come; no picture is kept.
    """
    start_server(options)


def start_server(options: ServeOptions) -> None:
    """The work of `birefnet serve`."""
    from birefnet.presets import read_presets, with_files
    from birefnet.serving.settings import ServerSettings

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        api_keys=read_keys(options.api_keys),
        cors=tuple(options.cors or ()),
        allowed_hosts=tuple(options.allowed_host or ()),
        connections=options.connections,
        page=options.page,
        model=with_network_config(options.model, options.network_config),
        models=tuple(options.also or ()),
        strict_models=options.strict_models,
        presets=with_files(read_presets(options.presets)),
        device=options.device,
        dtype=options.dtype,
        engine=options.engine,
        memory_budget=parse_size(options.memory, "--memory"),
        batch=options.batch,
        wait_ms=options.wait_ms,
        queue=options.queue,
        workers=options.workers,
        timeout_s=options.timeout,
        grace_s=options.grace,
        max_bytes=parse_size(options.max_size, "--max-size"),
        max_upload=parse_size(options.max_upload, "--max-upload"),
        max_pixels=round(options.max_megapixels * 1_000_000),
        max_pixels_held=None
        if options.max_megapixels_held is None
        else round(options.max_megapixels_held * 1_000_000),
        max_resolution=options.max_resolution,
        max_frames=options.max_frames,
        fetch=options.fetch,
        fetch_hosts=tuple(options.fetch_host or ()),
        root_path=options.root_path,
    )
    run_server(
        settings,
        lambda url: say(f"birefnet listens at {url}; /docs describes it; Ctrl-C ends it"),
        options.log_level,
    )


def run_server(
    settings: ServerSettings, on_start: Callable[[str], None], log_level: str = "warning"
) -> None:
    """Serve until Ctrl-C.

    Args:
        settings: of the server.
        on_start: called with its address when it takes requests.
        log_level: of uvicorn.
    """
    from contextlib import closing

    from birefnet.serving.app import create_app
    from birefnet.serving.running import address, bind, run

    with closing(bind(settings.host, settings.port)) as listening:
        url = address(listening)
        if settings.is_public and not settings.api_keys:
            warn(f"Everybody who reaches {url} can use it; {KEYS} or --api-keys asks for a key.")
        app = create_app(settings=settings)
        say("loading the model …")
        run(app, listening, lambda: on_start(url), log_level=log_level)


def read_keys(path: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Keys of a file (a line each; # begins a comment) and of the environment."""
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None else []
    keys = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    keys += [key.strip() for key in environment.get(KEYS, "").split(",")]
    return tuple(dict.fromkeys(key for key in keys if key))


def parse_size(text: str, option: str) -> int:
    """Bytes of "512M", "4G", "100000".

    Raises:
        typer.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{option} is {text!r}; give a size such as 64M or 4G")
    return round(float(match[1]) * _UNITS[match[2]])
