"""Downloads against a server on 127.0.0.1 that misbehaves in every way servers do."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from birefnet.errors import WeightsError
from birefnet.weights import transfer as transfer_module
from birefnet.weights.cache import cache_directory, hub_cached, mirrored
from birefnet.weights.catalogue import Checkpoint
from birefnet.weights.download import cached, fetch, file_sha256

BODY = bytes(range(256)) * 1200  # 307,200 bytes
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Behaviour:
    """What the server does; `log` holds the Range header of each request."""

    body: bytes = BODY
    etag: str | None = '"one"'
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)  # bytes of each of the first answers
    statuses: list[int] = field(default_factory=list)  # of the first answers
    claim: int | None = None  # Content-Length in place of the true one
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    delay: float = 0.0
    log: list[str | None] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        does = self.behaviour
        does.log.append(self.headers.get("Range"))
        does.authorization.append(self.headers.get("Authorization"))
        does.paths.append(self.path)
        if does.delay:
            threading.Event().wait(does.delay)
        if does.statuses and (status := does.statuses.pop(0)) != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if does.redirect and self.path != "/final":
            self.send_response(302)
            self.send_header("Location", does.redirect)
            for name, value in does.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = 0
        asked = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, does.etag)
        if asked and does.ranges and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(does.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(does.body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            total = len(does.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        rest = does.body[start:]
        if does.length:
            self.send_header("Content-Length", str(does.claim or len(rest)))
        if does.etag:
            self.send_header("ETag", does.etag)
        for name, value in does.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if does.break_after:
            rest = rest[: does.break_after.pop(0)]
        self.wfile.write(rest)


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("Bound", (Handler,), {"behaviour": behaviour})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", behaviour
    running.shutdown()
    thread.join()
    running.server_close()


pytestmark = pytest.mark.usefixtures("own_caches")


def entry(base: str, **fields: object) -> Checkpoint:
    values = {"bytes": len(BODY), "sha256": SHA, "addresses": (f"{base}/weights.pth",), **fields}
    return Checkpoint(
        name="test",
        title="",
        task="general",
        kind="network",
        preset="swin_v1_t",
        filename="weights.pth",
        **values,  # type: ignore[arg-type]
    )


def get(what: Checkpoint | str, **options: object) -> Path:
    return fetch(what, **{"backoff": 0.001, "timeout": 5.0, **options})  # type: ignore[arg-type]


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock"))


def test_fetches_once_and_reports_progress(server: tuple[str, Behaviour]) -> None:
    base, does = server
    seen: list[tuple[int, int | None]] = []
    path = get(entry(base), progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert get(entry(base)) == path
    assert len(does.log) == 1
    assert leftovers(path) == ["weights.pth"]
    assert cached(entry(base)) == path
    assert file_sha256(path) == SHA


def test_a_broken_connection_is_resumed_where_it_stopped(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.break_after = [100_000, 50_000]
    assert get(entry(base)).read_bytes() == BODY
    assert does.log == [None, "bytes=100000-", "bytes=150000-"]


def test_resuming_needs_a_sign_that_the_file_is_the_same(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.break_after, does.etag = [100_000], None
    address = f"{base}/weights.pth"  # no checksum known, no tag from the server
    assert get(address).read_bytes() == BODY
    assert does.log == [None, None]


def test_a_part_left_by_another_run_is_continued_or_thrown_away(
    server: tuple[str, Behaviour],
) -> None:
    base, does = server
    does.break_after = [100_000]
    with pytest.raises(WeightsError, match=r"broke off after 100,000 of 307,200 bytes"):
        get(entry(base), retries=-1)
    does.body, does.etag = BODY[::-1], '"two"'  # replaced by its publisher meanwhile
    reversed_sha = hashlib.sha256(does.body).hexdigest()
    path = get(entry(base, sha256=reversed_sha))
    assert path.read_bytes() == BODY[::-1]
    assert does.log == [None, "bytes=100000-"]


def test_a_damaged_part_costs_one_more_download(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.etag = None
    folder = cache_directory() / "test"
    folder.mkdir(parents=True)
    (folder / "weights.pth.part").write_bytes(b"x" * 1000)
    (folder / "weights.pth.part.tag").write_text("")
    assert get(entry(base)).read_bytes() == BODY
    assert does.log == ["bytes=1000-", None]


def test_a_server_without_ranges_starts_anew(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.break_after, does.ranges = [100_000], False
    assert get(entry(base)).read_bytes() == BODY
    assert len(does.log) == 2


def test_a_server_that_never_gets_further_is_given_up(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.break_after, does.ranges = [1000] * 50, False
    with pytest.raises(WeightsError, match=r"broke off after 1,000 of 307,200 bytes, 3 times"):
        get(entry(base), retries=2)
    assert len(does.log) == 4  # the first made the file grow


def test_everything_was_there_already(server: tuple[str, Behaviour]) -> None:
    base, does = server
    folder = cache_directory() / "test"
    folder.mkdir(parents=True)
    (folder / "weights.pth.part").write_bytes(BODY)
    (folder / "weights.pth.part.tag").write_text('"one"')
    assert get(entry(base)).read_bytes() == BODY
    assert does.log == [f"bytes={len(BODY)}-"]


def test_a_server_that_claims_too_much_is_asked_for_the_rest(
    server: tuple[str, Behaviour],
) -> None:
    base, does = server
    does.claim = len(BODY) + 1000
    assert get(entry(base)).read_bytes() == BODY
    assert does.log == [None, f"bytes={len(BODY)}-"]  # the answer to which is: there is no more


def test_a_server_that_claims_too_little_is_refused(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.claim = len(BODY) - 1000
    with pytest.raises(WeightsError, match=r"got 306,200 bytes, expected 307,200"):
        get(entry(base))
    assert not (cache_directory() / "test" / "weights.pth").exists()


def test_no_length_at_all_is_fine(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.length = False
    assert get(entry(base)).read_bytes() == BODY


def test_wrong_bytes_are_refused_and_removed(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.body = b"\0" * len(BODY)
    with pytest.raises(WeightsError, match=rf"SHA-256 is [0-9a-f]{{64}}, expected {SHA}"):
        get(entry(base))
    folder = cache_directory() / "test"
    assert [p.name for p in folder.iterdir()] == ["weights.pth.lock"]
    assert get(entry(base), verify=False).read_bytes() == does.body


def test_a_web_page_is_not_a_file(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(WeightsError, match="sent a web page in place of the file"):
        get(entry(base))


def test_passing_errors_are_tried_again_and_lasting_ones_are_not(
    server: tuple[str, Behaviour],
) -> None:
    base, does = server
    does.statuses = [500, 503, 429]
    assert get(entry(base)).read_bytes() == BODY
    assert len(does.log) == 4
    does.log.clear()
    does.statuses = [404]
    with pytest.raises(WeightsError, match=r"answered 404"):
        get(f"{base}/other.pth")
    assert len(does.log) == 1


@pytest.mark.parametrize("change", ["status", "body", "page", "broken"])
def test_every_failure_names_the_ways_round_it(server: tuple[str, Behaviour], change: str) -> None:
    base, does = server
    if change == "status":
        does.statuses = [404]
    elif change == "body":
        does.body = b"\0" * len(BODY)
    elif change == "page":
        does.headers = {"Content-Type": "text/html"}
    else:
        does.statuses = [503] * 9
    there = entry(base)
    cures = f"; download {there.addresses[0]} elsewhere and give its path, or set BIREFNET_MIRROR"
    with pytest.raises(WeightsError, match=re.escape(cures)):
        get(there)


def test_the_next_address_is_tried(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.statuses = [404]
    assert get(entry(base, addresses=(f"{base}/a", f"{base}/b"))).read_bytes() == BODY
    assert does.paths == ["/a", "/b"]


def test_gated_models_say_what_to_do(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, does = server
    monkeypatch.setenv("HF_ENDPOINT", base)
    does.statuses = [401]
    gated = entry(
        base,
        addresses=("https://huggingface.co/org/name/resolve/main/weights.pth",),
        repo="org/name",
        gated=True,
    )
    with pytest.raises(WeightsError, match=r"accept the terms at .*/org/name and set HF_TOKEN"):
        get(gated)
    monkeypatch.setenv("HF_TOKEN", "secret")
    does.redirect = f"{base.replace('127.0.0.1', 'localhost')}/final"
    assert get(gated).read_bytes() == BODY
    assert does.authorization == [None, "Bearer secret", None]  # not told to the other server
    assert does.paths == ["/org/name/resolve/main/weights.pth"] * 2 + ["/final"]


def test_the_checksum_that_hugging_face_announces_is_compared(
    server: tuple[str, Behaviour],
) -> None:
    base, does = server
    does.redirect = f"{base}/final"
    does.headers = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(WeightsError, match=f"expected {'0' * 64}"):
        get(f"{base}/weights.pth")
    does.headers = {"X-Linked-Etag": f'"{SHA}"'}
    assert get(f"{base}/weights.pth").read_bytes() == BODY


def test_only_http_addresses(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(WeightsError, match="not an http or https address"):
        get(secret.as_uri())
    base, does = server
    for elsewhere in (secret.as_uri(), "ftp://127.0.0.1/weights.pth"):
        does.redirect = elsewhere
        with pytest.raises(WeightsError, match=r"not allowed|not an http or https address"):
            get(f"{base}/weights.pth")


def test_offline_uses_what_is_there_and_downloads_nothing(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, does = server
    for name in ("BIREFNET_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
        with pytest.raises(WeightsError, match=r"test is not in .* downloads are switched off"):
            get(entry(base))
        monkeypatch.delenv(name)
    assert does.log == []
    path = get(entry(base))
    monkeypatch.setenv("BIREFNET_OFFLINE", "true")
    assert get(entry(base)) == path


def test_the_mirror_is_asked_first(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, does = server
    monkeypatch.setenv("BIREFNET_MIRROR", f"{base}/copy/")
    original = "https://huggingface.co/o/n/resolve/main/weights.pth"
    assert get(entry(base, addresses=(original,))).read_bytes() == BODY
    assert does.paths == ["/copy/o/n/resolve/main/weights.pth"]
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test/")
    assert mirrored(original) == [
        f"{base}/copy/o/n/resolve/main/weights.pth",
        "http://hub.test/o/n/resolve/main/weights.pth",
    ]


def test_hugging_faces_cache_is_used(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, does = server
    root = tmp_path / "hub" / "hub" / "models--org--name"
    commit = "a" * 40
    for folder in ("blobs", "refs", f"snapshots/{commit}/sub"):
        (root / folder).mkdir(parents=True)
    (root / "blobs" / SHA).write_bytes(BODY)
    (root / "refs" / "main").write_text(commit)
    link = root / "snapshots" / commit / "sub" / "weights.pth"
    link.symlink_to(root / "blobs" / SHA)
    there = entry(
        base,
        addresses=("https://huggingface.co/org/name/resolve/main/sub/weights.pth",),
        repo="org/name",
    )
    assert get(there, offline=True) == link
    assert hub_cached("org/name", "sub/weights.pth", commit) == link
    assert hub_cached("org/name", "sub/weights.pth", sha256="0" * 64) is None
    assert hub_cached("org/name", "weights.pth") is None
    with pytest.raises(WeightsError, match="switched off"):
        get(replace(there, bytes=1), offline=True)
    assert does.log == []


def test_no_room_and_no_permission(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, _ = server
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(transfer_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"needs 0 MB and .* has 0 MB left: make room"):
        get(entry(base))
    monkeypatch.undo()
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(WeightsError, match=r"cannot write to .* set BIREFNET_CACHE"):
        get(entry(base), cache_dir=blocked)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = server
    folder = cache_directory() / "test"
    folder.mkdir(parents=True)
    (folder / "weights.pth.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=r"cannot write to .* \(No space left on device\)"):
        get(entry(base))


def test_an_unreachable_server_is_one_sentence() -> None:
    with pytest.raises(WeightsError, match=r"127.0.0.1:9 cannot be reached .*2 times in a row"):
        get("http://127.0.0.1:9/weights.pth", retries=1)


def test_two_processes_at_once_fetch_once(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, does = server
    does.delay = 0.5
    script = textwrap.dedent(f"""
        import hashlib
        from birefnet.weights.download import fetch
        path = fetch({base + "/weights.pth"!r}, sha256={SHA!r})
        assert hashlib.sha256(path.read_bytes()).hexdigest() == {SHA!r}
    """)
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(does.log) == 1


def test_a_process_that_was_killed_leaves_no_lock_behind(server: tuple[str, Behaviour]) -> None:
    base, does = server
    does.break_after = [1000]
    does.etag = None
    script = textwrap.dedent(f"""
        import os
        from birefnet.weights.download import fetch
        fetch({base + "/weights.pth"!r}, progress=lambda done, total: done and os._exit(9))
    """)
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    assert (
        subprocess.run([sys.executable, "-c", script], env=environment, timeout=60).returncode == 9
    )
    assert get(f"{base}/weights.pth").read_bytes() == BODY
