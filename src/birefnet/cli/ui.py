"""`birefnet ui`: the page for people, served by this machine for its own browser."""

from __future__ import annotations

from typing import Annotated

import typer

from birefnet.cli.options import (
    Device,
    Dtype,
    GroupedCommand,
    MaxMegapixels,
    Model,
    NetworkConfigText,
    examples,
    with_network_config,
)
from birefnet.cli.serve import (
    Also,
    ApiKeys,
    Host,
    MaxSize,
    MaxUpload,
    Port,
    parse_size,
    read_keys,
    run_server,
)
from birefnet.errors import require
from birefnet.terminal import say

EXAMPLES = examples(
    "birefnet ui --open",
    "birefnet ui --model general --also matting",
    "birefnet ui --host 0.0.0.0 --api-keys keys.txt",
)


def register(app: typer.Typer) -> None:
    app.command(cls=GroupedCommand, epilog=EXAMPLES)(ui)


def ui(
    context: typer.Context,
    model: Model = None,
    network_config: NetworkConfigText = None,
    also: Also = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    api_keys: ApiKeys = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_size: MaxSize = "256M",
    max_upload: MaxUpload = "4G",
    max_megapixels: MaxMegapixels = 200,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    in_browser: Annotated[
        bool,
        typer.Option(
            "--in-browser",
            help="Open the page of `export --format web` instead, which runs in the browser "
            "alone; needs no extra.",
        ),
    ] = False,
) -> None:
    """Serve the web page at http://127.0.0.1:7860; Ctrl-C stops it.

    Pictures stay on this machine, and all of the page comes from it. Only a model that is not here
    yet is fetched, when it is chosen.
    """
    from birefnet.serving.settings import ServerSettings

    model = with_network_config(model, network_config)
    if in_browser:
        from birefnet.cli.in_browser import serve

        serve(context, model, host, port)
        return
    require("the page", "ui")
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=read_keys(api_keys),
        model=model,
        models=tuple(also or ()),
        device=device,
        dtype=dtype,
        max_bytes=parse_size(max_size, "--max-size"),
        max_upload=parse_size(max_upload, "--max-upload"),
        max_pixels=round(max_megapixels * 1_000_000),
        max_frames=1_000_000,
        grace_s=3,
    )

    def on_start(url: str) -> None:
        say(f"The page is at {url}; Ctrl-C ends it")
        if open_page:
            import webbrowser

            webbrowser.open(url)

    run_server(settings, on_start)
