"""`birefnet export --format web`: the page that runs in a browser alone."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birefnet.cli.in_browser import server_of
from birefnet.cli.main import app
from birefnet.errors import UsageError
from birefnet.export.web import SITE, write_site
from birefnet.serving.running import address, bind
from birefnet.weights.locate import BUNDLED

WEB = Path(__file__).parents[2] / "web"
NANO = BUNDLED / "nano"
MOST = 40e6  # bytes


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["export", *arguments])
    return done.exit_code, " ".join(done.output.replace("│", " ").split()) + str(done.exception)


def test_the_command_writes_the_page_and_the_weights_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "page"
    status, said = run("nano", "--format", "web", "-o", str(folder), "--json")
    assert status == 0, said
    for name in ("config.json", "model.onnx", "model.safetensors", "ATTRIBUTION.md"):
        assert (folder / "model" / name).read_bytes() == (NANO / name).read_bytes()
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    written = json.loads(
        (
            CliRunner().invoke(app, ["export", "nano", "-f", "web", "-o", str(folder), "--json"])
        ).stdout
    )
    assert written["files"] == sizes
    assert written["bytes"] == sum(sizes.values()) < MOST


def test_the_service_worker_is_another_for_other_files(tmp_path: Path) -> None:
    other = tmp_path / "mine"
    shutil.copytree(NANO, other)
    (other / "ATTRIBUTION.md").unlink()
    write_site("nano", tmp_path / "a")
    write_site("nano", tmp_path / "b")
    write_site(other, tmp_path / "c")
    workers = [(tmp_path / name / "sw.js").read_text() for name in "abc"]
    assert workers[0] == workers[1] != workers[2]
    assert not any("VERSION" in worker for worker in workers)
    assert "MIT" in (tmp_path / "c/model/ATTRIBUTION.md").read_text()


def test_a_missing_graph_is_made(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((NANO / name).read_bytes())
    write_site(tmp_path, tmp_path / "page")
    assert (tmp_path / "page/model/model.onnx").stat().st_size > 100_000
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name it with -o DIR"),
        (("-o", "page", "--size", "64"), "--size has no effect with --format web"),
        (("-o", "page", "--precision", "fp16"), "--precision has no effect with --format web"),
        (("-o", "page", "--force"), "--force has no effect with --format web"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple[str, ...], message: str) -> None:
    status, said = run("nano", "--format", "web", *options)
    assert status == 2
    assert message in said


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("")
    status, said = run("nano", "--format", "web", "-o", str(tmp_path / "page"))
    assert status == 2
    assert "is a file" in said


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("preprocess", {"looks": [], "fit": "pad"}, "stretches pictures bilinearly"),
        ("preprocess", {"interpolation": "area"}, "stretches pictures bilinearly"),
        ("network", {"guidance_channel": True}, "has a guidance channel"),
        (None, {"format": "of others"}, "is not a directory with config.json"),
    ],
)
def test_weights_that_the_page_cannot_run_are_refused(
    tmp_path: Path, section: str | None, change: dict[str, object], message: str
) -> None:
    shutil.copytree(NANO, tmp_path / "mine")
    path = tmp_path / "mine/config.json"
    settings = json.loads(path.read_text())
    (settings[section] if section else settings).update(change)
    path.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=message):
        write_site(tmp_path / "mine", tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_server_sends_the_headers_for_threads(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>here</p>")
    with bind("127.0.0.1", 0) as listening:
        server = server_of(tmp_path, listening)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"{address(listening)}/") as answer:
            assert answer.read() == b"<p>here</p>"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        server.shutdown()


def test_the_built_page_is_that_of_its_sources() -> None:
    if not WEB.is_dir():
        pytest.skip("the sources are in the repository alone")
    names = ["build.mjs", "package-lock.json"]
    names += [
        f"{folder}/{path.name}" for folder in ("src", "static") for path in (WEB / folder).iterdir()
    ]
    sources = b"".join((WEB / name).read_bytes() for name in sorted(names))
    built = (SITE / "sources.sha256").read_text().strip()
    assert built == hashlib.sha256(sources).hexdigest(), "run `npm ci && npm run build` in web"


def test_nothing_comes_from_elsewhere() -> None:
    """No address in what browsers load by themselves, and none of a registry in the lock file."""
    for path in (SITE / "index.html", SITE / "page.css", SITE / "page.js", SITE / "sw.js"):
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", path.read_text()))
        assert not found - {"http://www.w3.org/2000/svg"}, path.name
    if WEB.is_dir():
        lock = json.loads((WEB / "package-lock.json").read_text())
        assert not any("resolved" in package for package in lock["packages"].values())
