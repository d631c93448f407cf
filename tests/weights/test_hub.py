"""Any repository on Hugging Face, from a stand-in server on 127.0.0.1."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from birefnet.errors import WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.network.build import build_network
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.hub import choose_files, fetch_repository
from birefnet.weights.layouts import to_official
from birefnet.weights.locate import Repository, parse_repository
from birefnet.weights.save import save_directory


@pytest.fixture
def hub(
    own_caches: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Path, list[str]]]:
    """Folder of repositories that the server shows, and the paths that were asked for."""
    folder, asked = tmp_path / "served", list[str]()
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            parts = self.path.strip("/").split("/")
            body: bytes | None = None
            if parts[:2] == ["api", "models"]:
                repository = folder / "/".join(parts[2:4])
                names = [p.relative_to(repository).as_posix() for p in repository.rglob("*.*")]
                if names:
                    body = json.dumps({"siblings": [{"rfilename": n} for n in names]}).encode()
            else:
                file = folder / parts[0] / parts[1] / "/".join(parts[4:])
                body = file.read_bytes() if file.is_file() else None
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield folder, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_data_is_fetched_and_only_once(hub: tuple[Path, list[str]]) -> None:
    folder, asked = hub
    network = build_network("tiny")
    repository = folder / "someone" / "net"
    save_directory(repository, network, Preprocess(width=64, height=64))
    (repository / "birefnet.py").write_text("raise SystemExit('was run')")
    (repository / "pytorch_model.bin").write_bytes(b"not wanted")
    loaded = load_checkpoint("someone/net")
    assert loaded.preprocess.width == 64
    assert torch.equal(loaded.network.decoder.head.weight, network.decoder.head.weight)
    assert asked == [
        "/api/models/someone/net/revision/main",
        "/someone/net/resolve/main/config.json",
        "/someone/net/resolve/main/model.safetensors",
    ]
    load_checkpoint("someone/net", offline=True)
    assert len(asked) == 3


def test_split_weights_and_revisions(hub: tuple[Path, list[str]]) -> None:
    folder, asked = hub
    repository = folder / "someone" / "split"
    repository.mkdir(parents=True)
    state = to_official(build_network("tiny").state_dict())
    names = sorted(state)
    weight_map = {}
    for part, inside in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
        save_file({n: state[n] for n in inside}, repository / part)
        weight_map |= dict.fromkeys(inside, part)
    index = repository / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert load_checkpoint("someone/split@v2").name == "someone/split@v2"
    assert asked[-1] == "/someone/split/resolve/v2/b.safetensors"


def test_a_hostile_index_stays_inside(hub: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, asked = hub
    repository = folder / "someone" / "evil"
    repository.mkdir(parents=True)
    index = repository / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../../escaped.safetensors"}}))
    with pytest.raises(WeightsError, match="not a file beside it"):
        load_checkpoint("someone/evil")
    assert asked[-1].endswith("index.json")
    assert not list(tmp_path.rglob("escaped*"))


def test_a_repository_that_is_not_there(hub: tuple[Path, list[str]]) -> None:
    message = r"Hugging Face has no no/body, .* it answered 404.* or set BIREFNET_MIRROR"
    with pytest.raises(WeightsError, match=message):
        fetch_repository(Repository("no/body"))


def test_a_server_that_talks_nonsense(
    hub: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birefnet.weights.hub.json.loads", lambda _: {"siblings": 3})
    folder, _ = hub
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.bin").touch()
    with pytest.raises(WeightsError, match="did not answer with a list of files"):
        fetch_repository(Repository("a/b"))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["config.json", "model.safetensors", "x.pth"], ["config.json", "model.safetensors"]),
        (["README.md", "finetuned.pth", "sub/model.safetensors"], ["finetuned.pth"]),
        (["a.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["a.safetensors", "b.pth"], ["a.safetensors"]),
    ],
)
def test_choosing_files(names: list[str], chosen: list[str]) -> None:
    assert choose_files(names, "x") == chosen


@pytest.mark.parametrize("names", [["a.pth", "b.pth"], ["model.onnx", "sub/a.pth"]])
def test_nothing_or_too_much_to_choose(names: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"holds (several files|no file) of weights"):
        choose_files(names, "x")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("owner/name", Repository("owner/name")),
        ("owner/name-1.0@abc", Repository("owner/name-1.0", "abc")),
        ("owner/file.pth", None),
        ("name", None),
        ("a/b/c", None),
        ("../name", None),
        ("owner/..", None),
        ("/etc/passwd", None),
        ("owner/name@a/b", None),
    ],
)
def test_ids(text: str, parsed: Repository | None) -> None:
    assert parse_repository(text) == parsed
