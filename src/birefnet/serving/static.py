"""A folder of files for the browser of this machine, with the headers that allow threads."""

from __future__ import annotations

import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - the base class has it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",  # whatever Windows' registry says
        ".mjs": "text/javascript",
        ".gz": "application/gzip",
    }

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
