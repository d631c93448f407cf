"""`birefnet ui`: the page for people, served by this machine for its own browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.common import Device, Dtype, Model, say

if TYPE_CHECKING:
    from birefnet.serving.settings import ServerSettings

PORT = 7860
MIB = 2**20


def register(app: typer.Typer) -> None:
    app.command()(ui)


def ui(
    model: Model = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="NAME|NAME=PATH",
            help="Another model to choose from; `all` for every released one. It is downloaded "
            "when it is first chosen.",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0: any free.")] = (
        PORT
    ),
    host: Annotated[
        str,
        typer.Option(
            "--host", help="127.0.0.1 for this machine alone, 0.0.0.0 for the whole network."
        ),
    ] = "127.0.0.1",
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Asked for by the browser, as password beside any name; 16 characters or more.",
            envvar="BIREFNET_API_KEY",
        ),
    ] = None,
    max_mb: Annotated[
        int, typer.Option("--max-mb", min=1, metavar="MB", help="Largest upload.")
    ] = 1024,
    device: Device = "auto",
    dtype: Dtype = "auto",
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve the page for people at http://127.0.0.1:7860; Ctrl-C ends it.

    Everything comes from this machine, and pictures stay on it. Only a model that is not there yet
    is downloaded, when it is chosen.
    """
    from birefnet.serving.settings import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=(key,) if key else (),
        model=model,
        models=tuple(models or ()),
        device=device,
        dtype=dtype,
        max_bytes=max_mb * MIB,
    )
    _serve(settings, open_browser=open_browser)


def _serve(settings: ServerSettings, *, open_browser: bool) -> None:
    """Until it is interrupted.

    Raises:
        BiRefNetError: the port is taken, or the model cannot be loaded.
        MissingExtraError: Gradio is not installed.
    """
    from contextlib import closing

    from birefnet.serving.page.running import address as address_of
    from birefnet.serving.page.running import bind, run

    with closing(bind(settings.host, settings.port)) as listening:
        address = address_of(listening)

        def started() -> None:
            say(f"birefnet's page is at {address} (Ctrl-C ends it)")
            if settings.is_public and not settings.api_keys:
                say("Everybody on this network can use it; --key asks them for a key.")
            if open_browser:
                import webbrowser

                webbrowser.open(address)

        run(settings, listening, started)
