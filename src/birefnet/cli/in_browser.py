"""The page that needs no server: `export --format web` and `ui --in-browser`."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import typer

from birefnet.terminal import progress_bar, say


def export_site(
    context: typer.Context, model: str, output: Path | None, *, as_json: bool = False
) -> None:
    """Write the page into a folder.

    Raises:
        typer.BadParameter: another option of `export` was given, or no folder.
    """
    from birefnet.export.web import facts, write_site

    _only(context, "--format web", {"model", "output", "format", "as_json"})
    if output is None:
        raise typer.BadParameter("--format web writes a folder; name it with -o DIR")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; --format web writes a folder")
    with progress_bar("write", show=not as_json):
        paths = write_site(model, output)
    if as_json:
        typer.echo(json.dumps(facts(paths, output), indent=2))
        return
    size = sum(path.stat().st_size for path in paths)
    say(f"Wrote the page into {output} ({size / 1e6:.1f} MB)")
    say(
        "Give the folder to any web server (https or localhost), or try it: "
        f"python -m http.server --directory {output}"
    )


def serve(context: typer.Context, model: str | None, host: str, port: int) -> None:
    """Serve the page from a temporary folder until Ctrl-C, and open it."""
    import tempfile
    import webbrowser

    from birefnet.export.web import write_site
    from birefnet.serving.running import address, bind
    from birefnet.weights.locate import default_model

    _only(context, "--in-browser", {"model", "host", "port", "open_page", "in_browser"})
    with tempfile.TemporaryDirectory() as folder, bind(host, port) as listening:
        with progress_bar("write the page"):
            write_site(model or default_model(), Path(folder))
        url = address(listening)
        say(f"The page is at {url}; Ctrl-C ends it. It keeps working in the browser after that.")
        webbrowser.open(url)
        with suppress(KeyboardInterrupt):
            server_of(Path(folder), listening).serve_forever()


def _only(context: typer.Context, way: str, known: set[str]) -> None:
    """Refuse options that have no effect.

    Raises:
        typer.BadParameter: names the first.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        # By name: newer versions of typer bring a click of their own.
        if parameter.name not in known and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]} has no effect with {way}; leave it out")


_MEDIA_TYPES = {
    **SimpleHTTPRequestHandler.extensions_map,
    ".js": "text/javascript",  # whatever Windows' registry says
    ".mjs": "text/javascript",
    ".gz": "application/gzip",
}


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = _MEDIA_TYPES

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: every file would be a line."""


def server_of(folder: Path, listening: socket.socket) -> ThreadingHTTPServer:
    """A server of the folder at a socket that listens already; `serve_forever` runs it."""
    handler = partial(_Handler, directory=str(folder))
    server = ThreadingHTTPServer(listening.getsockname()[:2], handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    return server
