"""POST /v1/batch: a zip in, a zip out; hostile zips go nowhere."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from birefnet.serving.errors import InvalidRequest, ServingError
from birefnet.serving.settings import ServerSettings
from birefnet.serving.zips import Names, Unzipped
from compat_client import black_file, disc_file, pixels_of, serving


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


def post(client: TestClient, data: bytes, **fields: Any) -> Any:
    return client.post("/v1/batch", files={"file": ("in.zip", data)}, data=fields)


def opened(answer: Any) -> tuple[zipfile.ZipFile, list[dict[str, Any]]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    lines = archive.read("manifest.jsonl").decode().splitlines()
    return archive, [json.loads(line) for line in lines]


def test_names_and_folders_are_kept_and_failures_are_listed(client: TestClient) -> None:
    data = zipped(
        {
            "one.jpg": disc_file(40, 50, "jpeg"),
            "deep/er/two.png": disc_file(48, 64),
            "deep/ümlaut €.webp": disc_file(30, 30, "webp"),
            "empty.png": black_file(),
            "broken.png": b"\x89PNG\r\n\x1a\nnothing",
            "notes.txt": b"not a picture",
            "__MACOSX/._one.jpg": b"junk",
            "deep/.DS_Store": b"junk",
        }
    )
    archive, lines = opened(post(client, data, kind="mask"))
    assert archive.namelist() == [
        "one.png", "deep/er/two.png", "deep/ümlaut €.png", "empty.png", "manifest.jsonl",
    ]  # fmt: skip
    assert pixels_of(archive.read("one.png")).shape == (40, 50)
    by_name = {line["input"]: line for line in lines}
    assert len(by_name) == 6
    assert by_name["one.jpg"]["output"] == "one.png"
    assert by_name["one.jpg"]["is_empty"] is False
    assert by_name["empty.png"]["is_empty"] is True
    for name in ("broken.png", "notes.txt"):
        assert by_name[name]["status"] == "failed"
        assert by_name[name]["error"]["message"]


def test_order_is_that_of_the_zip(client: TestClient) -> None:
    names = [f"{number:02}.png" for number in range(20)]
    data = zipped({name: disc_file(20 + 5 * i, 40) for i, name in enumerate(names)})
    archive, lines = opened(post(client, data, kind="mask"))
    assert [line["input"] for line in lines] == names
    for i, name in enumerate(names):
        assert pixels_of(archive.read(name)).shape == (20 + 5 * i, 40)


def test_equal_names_do_not_replace_each_other(client: TestClient) -> None:
    data = zipped({name: disc_file(format=name[2:]) for name in ("a.jpeg", "a.png", "a.webp")})
    archive, _ = opened(post(client, data))
    assert archive.namelist() == ["a.jpeg.png", "a.png.png", "a.webp.png", "manifest.jsonl"]


def test_objects_are_numbered_files(client: TestClient) -> None:
    archive, lines = opened(post(client, zipped({"x/a.png": disc_file()}), objects="true"))
    assert archive.namelist() == ["x/a.1.png", "manifest.jsonl"]
    assert lines[0]["objects"][0]["output"] == "x/a.1.png"


def test_a_zip_as_the_body_with_options_in_the_query(client: TestClient) -> None:
    answer = client.post(
        "/v1/batch?background=white&format=jpeg",
        content=zipped({"a.png": disc_file()}),
        headers={"content-type": "application/zip"},
    )
    archive, _ = opened(answer)
    assert archive.namelist() == ["a.jpeg", "manifest.jsonl"]


def test_names_never_leave_the_folder(client: TestClient) -> None:
    evil = ["../up.png", "/abs.png", "a/../../up.png", "C:\\win.png", "..\\up.png", "a\x01b.png"]
    archive, lines = opened(post(client, zipped(dict.fromkeys(evil, disc_file()))))
    assert archive.namelist() == ["manifest.jsonl"]
    assert all("leads out" in line["error"]["message"] for line in lines)
    assert len(lines) == len(evil)


def test_links_and_encrypted_files_are_refused(client: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("locked.png", disc_file())
    data = bytearray(buffer.getvalue())
    place = data.rfind(b"PK\x01\x02")
    data[place + 8] |= 1  # the flag that says: encrypted
    _, lines = opened(post(client, bytes(data)))
    assert "link" in lines[0]["error"]["message"]
    assert "encrypted" in lines[1]["error"]["message"]


def test_bombs_are_refused() -> None:
    settings = ServerSettings(
        page=False, max_entries=5, max_unzipped=20_000_000, max_bytes=8_000_000
    )
    with serving(settings) as client:
        many = post(client, zipped({f"{i}.png": b"" for i in range(6)}))
        assert many.status_code == 413
        assert "6 files" in many.json()["error"]["message"]
        many = zipped({f"{'n' * 200}{i}.png": b"" for i in range(100)})
        assert post(client, many).status_code == 413
        large = post(client, zipped({f"{i}.png": bytes(7_000_000) for i in range(3)}))
        assert large.status_code == 413
        ratio = post(client, zipped({"a.png": bytes(7_000_000), "b.png": bytes(9_000_000)}))
        _, lines = opened(ratio)
        assert "expands" in lines[0]["error"]["message"]
        assert "larger than 8,000,000" in lines[1]["error"]["message"]


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"no zip at all" * 50, b"PK\x05\x06" + b"\0" * 18, b"PK\x05\x06\xff" * 9]
)
def test_what_is_no_zip(client: TestClient, data: bytes) -> None:
    answer = post(client, data)
    if answer.status_code == 200:  # an empty zip is a zip
        assert opened(answer)[1] == []
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


def test_damaged_zips_never_break_the_server(client: TestClient) -> None:
    import random

    whole = zipped({"a.png": disc_file(), "b/c.jpg": disc_file(format="jpeg")})
    chance = random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        answer = post(client, bytes(data))
        assert answer.status_code in (200, 400, 413), answer.text
    for length in range(0, len(whole), 97):
        assert post(client, whole[:length]).status_code in (400, 413)


def test_a_lying_directory_is_not_read(client: TestClient) -> None:
    data = bytearray(zipped({"a.png": disc_file()}))
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<L", 0x7FFFFFFF)
    assert post(client, bytes(data)).status_code == 413


def test_wrong_options_are_said_before_the_answer_begins(client: TestClient) -> None:
    data = zipped({"a.png": disc_file()})
    for fields in ({"kind": "nothing"}, {"model": "other"}, {"format": "jpeg"}, {"boxes": "1"}):
        assert 400 <= post(client, data, **fields).status_code < 500


def test_results_have_free_names() -> None:
    data = zipped({"a.png": b"", "a.2.png": b"", "manifest.jsonl": b"", "b/a.png": b""})
    unzipped = Unzipped(io.BytesIO(data), ServerSettings())
    names = Names(unzipped.entries, ".png")
    given = [names.of(entry) for entry in unzipped.entries]
    given += [names.numbered(unzipped.entries[0], 2), names.numbered(unzipped.entries[0], 2)]
    assert len(set(given)) == len(given)
    with pytest.raises(InvalidRequest):
        Unzipped(io.BytesIO(b"nothing"), ServerSettings())
    assert issubclass(InvalidRequest, ServingError)


def test_results_stay_apart_where_the_case_is_ignored() -> None:
    names = ("IMG.PNG", "img.png", "Img.jpg", "B/a.png", "b/A.png", "MANIFEST.jpg")
    unzipped = Unzipped(io.BytesIO(zipped(dict.fromkeys(names, b""))), ServerSettings())
    given = Names(unzipped.entries, ".png")
    assert len({given.of(entry).casefold() for entry in unzipped.entries}) == len(names)
