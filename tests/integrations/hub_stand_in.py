"""A stand-in for Hugging Face on 127.0.0.1: repositories are created, written and read."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves and fills `folder` (owner/name/file); gives its address and what was asked of it."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, values: object) -> None:
            self._answer(200, json.dumps(values).encode(), Content_Type="application/json")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            requests.append(f"{self.command} /{path}")
            parts = path.split("/")
            if parts[:2] == ["api", "models"]:
                there = folder / parts[2] / parts[3]
                names = [p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()]
                if not names:
                    return self._answer(404, X_Error_Code="RepoNotFound")
                siblings = [{"rfilename": name} for name in names]
                return self._json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
            file = folder / parts[0] / parts[1] / "/".join(parts[4:])
            if not file.is_file():
                return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            data = file.read_bytes()
            tag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self._answer(200, data, ETag=tag, X_Repo_Commit=COMMIT)

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            requests.append(f"POST {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = path.strip("/").split("/")
            if path == "/api/repos/create":
                wanted = json.loads(body)
                owner = wanted.get("organization") or "me"
                repo = f"{owner}/{wanted['name']}"
                (folder / repo).mkdir(parents=True, exist_ok=True)
                return self._json({"url": f"http://{self.headers['Host']}/{repo}", "name": repo})
            if path == "/api/validate-yaml":
                return self._json({"warnings": [], "errors": []})
            if parts[4] == "preupload":
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self._json({"files": files})
            assert parts[4] == "commit", path
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    target = folder / parts[2] / parts[3] / entry["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(entry["value"]["content"]))
            address = f"http://{self.headers['Host']}/{'/'.join(parts[2:4])}/commit/{COMMIT}"
            return self._json({"commitUrl": address, "commitOid": COMMIT})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
