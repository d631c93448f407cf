"""POST /v1/remove: every way to send a picture, every option, every form of the answer."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("multipart")

from PIL import Image
from starlette.testclient import TestClient

from birefnet.options import Options
from birefnet.presets import read_presets, with_files
from birefnet.serving.native.options import LEFT_OUT, OptionFields
from birefnet.serving.settings import ServerSettings
from compat_client import disc_file, pixels_of, serving
from fakes import write_disc


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def send(client: TestClient, **options: Any) -> Any:
    return client.post("/v1/remove", json={"image": base64_of(disc_file()), **options})


def sentence(answer: Any) -> str:
    """The message of a refusal, which is one sentence and tells nothing of the inside."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    assert "Traceback" not in error["message"]
    assert "\n" not in error["message"]
    return str(error["message"])


def uri_bytes(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return base64.b64decode(body)


@pytest.mark.parametrize("way", ["form", "json", "data uri", "body", "form text"])
def test_each_way_to_send_a_picture_gives_the_same(client: TestClient, way: str) -> None:
    data = disc_file()
    if way == "form":
        answer = client.post("/v1/remove", files={"file": ("photo.png", data, "image/png")})
        assert "photo.png" in answer.headers["content-disposition"]
    elif way == "json":
        answer = client.post("/v1/remove", json={"image": base64_of(data)})
    elif way == "data uri":
        uri = f"data:image/png;base64,{base64_of(data)}"
        answer = client.post("/v1/remove", json={"image": uri})
    elif way == "form text":
        answer = client.post("/v1/remove", data={"image": base64_of(data)})
    else:
        answer = client.post("/v1/remove", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "bright"
    assert answer.headers["x-empty"] == "false"
    pixels = pixels_of(answer.content)
    assert pixels.shape == (48, 64, 4)
    assert pixels[24, 32, 3] == 255
    assert pixels[0, 0, 3] == 0


def test_json_has_pictures_and_figures(client: TestClient) -> None:
    content = send(client, answer="json", kind="green").json()
    assert content["model"] == "bright"
    assert (content["width"], content["height"], content["format"]) == (64, 48, "png")
    assert 0.2 < content["coverage"] < 0.3
    assert content["confidence"] > 0.9
    assert content["is_empty"] is False
    assert tuple(pixels_of(uri_bytes(content["image"]))[0, 0]) == (0, 255, 0)
    mask = pixels_of(uri_bytes(content["mask"]))
    assert mask.shape == (48, 64)
    assert mask[24, 32] == 255


def test_accept_chooses_between_json_and_formats(client: TestClient) -> None:
    data = {"image": base64_of(disc_file())}
    as_json = client.post("/v1/remove", json=data, headers={"accept": "application/json"})
    assert as_json.json()["is_empty"] is False
    as_webp = client.post("/v1/remove", json=data, headers={"accept": "image/webp,*/*;q=0.8"})
    assert as_webp.headers["content-type"] == "image/webp"
    named = client.post(
        "/v1/remove", json={**data, "format": "tif"}, headers={"accept": "image/webp"}
    )
    assert named.headers["content-type"] == "image/tiff"


def test_figures_alone(client: TestClient) -> None:
    content = send(client, answer="json", include_image=False, include_mask=False).json()
    assert "image" not in content
    assert "mask" not in content
    assert content["coverage"] > 0


def test_every_option_is_a_documented_field(client: TestClient) -> None:
    names = {item.name for item in fields(Options)} - LEFT_OUT
    assert names <= set(OptionFields.model_fields)
    assert all(OptionFields.model_fields[name].description for name in names)
    content = client.get("/openapi.json").json()["paths"]["/v1/remove"]["post"]["requestBody"]
    for kind in ("multipart/form-data", "application/json"):
        assert names <= set(content["content"][kind]["schema"]["properties"])


def test_examples_of_the_document_work(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    body = paths["/v1/remove"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 3
    for example in body["examples"].values():
        assert client.post("/v1/remove", json=example["value"]).status_code == 200


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"kind": "mask"}, lambda p: p.shape == (48, 64)),
        ({"type": "mask"}, lambda p: p.shape == (48, 64)),
        ({"background": "white"}, lambda p: tuple(p[0, 0]) == (255, 255, 255)),
        ({"background": [0, 0, 255]}, lambda p: tuple(p[0, 0]) == (0, 0, 255)),
        ({"resolution": "96x64", "kind": "mask"}, lambda p: p.shape == (48, 64)),
        ({"resolution": [96, 64], "kind": "mask"}, lambda p: p.shape == (48, 64)),
        ({"resolution": 32, "kind": "mask"}, lambda p: p.shape == (48, 64)),
        ({"resolution": "native", "kind": "mask"}, lambda p: p.shape == (48, 64)),
        ({"threshold": 0.5, "kind": "mask"}, lambda p: set(np.unique(p)) == {0, 255}),
        ({"mask_offset": 4, "kind": "mask"}, lambda p: (p > 127).sum() > 900),
        ({"crop": True}, lambda p: p.shape[0] < 48 and p.shape[1] < 64),
        ({"boxes": [[8, 4, 56, 44]], "kind": "mask"}, lambda p: p[24, 32] > 200),
        ({"box": "8,4,56,44", "kind": "mask"}, lambda p: p[24, 32] > 200),
        ({"points": ["32,24"], "kind": "mask"}, lambda p: p[24, 32] > 200),
        ({"passes": 2, "kind": "mask"}, lambda p: p[24, 32] > 200),
        ({"shadow": "drop"}, lambda p: p.shape[2] == 4),
    ],
)
def test_options_do_what_they_say(client: TestClient, options: dict, check: Any) -> None:
    answer = send(client, **options)
    assert answer.status_code == 200, answer.text
    assert check(pixels_of(answer.content))


def test_forms_take_options_as_text_and_as_query(client: TestClient) -> None:
    answer = client.post(
        "/v1/remove?kind=mask",
        files={"file": disc_file()},
        data={"threshold": "0.5", "points": ["32,24", "30,20"], "refine": "false", "format": ""},
    )
    assert answer.status_code == 200, answer.text
    assert set(np.unique(pixels_of(answer.content))) == {0, 255}


def test_pictures_among_the_options(client: TestClient) -> None:
    blue = io.BytesIO()
    Image.new("RGB", (10, 10), (0, 0, 255)).save(blue, "PNG")
    ground = client.post(
        "/v1/remove", files={"file": disc_file(), "background": ("b.png", blue.getvalue())}
    )
    assert tuple(pixels_of(ground.content)[0, 0]) == (0, 0, 255)
    assert send(client, background=base64_of(blue.getvalue())).status_code == 200
    guide = io.BytesIO()
    Image.new("L", (64, 48), 255).save(guide, "PNG")
    assert send(client, guide=base64_of(guide.getvalue())).status_code == 200


def test_objects_come_one_by_one(client: TestClient) -> None:
    content = send(client, objects=True, answer="json").json()
    assert [part["number"] for part in content["objects"]] == [1]
    assert pixels_of(uri_bytes(content["objects"][0]["image"])).shape[2] == 4
    assert "answer=json" in sentence(send(client, objects=True))


def test_sizes_are_those_of_the_answer(client: TestClient) -> None:
    content = send(client, crop=True, answer="json").json()
    height, width = pixels_of(uri_bytes(content["image"])).shape[:2]
    assert (content["width"], content["height"]) == (width, height)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"colour": "red"}, "there is no field 'colour'; there are model"),
        ({"kind": "cutouts"}, "kind: "),
        ({"threshold": 2}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"mask_blur": 1e9}, "mask_blur"),
        ({"mask_offset": -1e9}, "mask_offset"),
        ({"resolution": "big"}, "resolution"),
        ({"resolution": 100000}, "resolution"),
        ({"resolution": 5000}, "2304x2304"),
        ({"resolution": 0}, "resolution"),
        ({"quality": "best"}, "quality"),
        ({"format": "jpeg"}, "cannot be transparent"),
        ({"format": "exe"}, "format"),
        ({"background": "/etc/passwd"}, "background"),
        ({"background": "no-colour"}, "background"),
        ({"guide": "/etc/passwd"}, "guide"),
        ({"guide": "red"}, "guide is text; send a picture"),
        ({"boxes": "1,2,3"}, "box"),
        ({"boxes": ["1,1,2,2"] * 65}, "boxes"),
        ({"other_points": "1,1"}, "point"),
        ({"crop_margin": "10"}, "crop_margin does nothing without crop"),
        ({"crop": True, "crop_margin": "100000"}, "pixels"),
        ({"model": "../secret"}, "this server has no model"),
        ({"model": "general"}, "this server has no model"),
        ({"url": "http://example.org/a.png"}, "got image and url"),
        ({"kind": ["mask"]}, "kind"),
        ({"passes": 3}, "passes"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    client: TestClient, options: dict, says: str
) -> None:
    text = json.dumps({"image": base64_of(disc_file()), **options})
    answer = client.post("/v1/remove", content=text, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert says in sentence(answer)
    assert "--" not in sentence(answer)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"image": 5}', "application/json", 400),
        (b'{"image": ""}', "application/json", 400),
        (b'{"image": "data:image/png,abc"}', "application/json", 400),
        (b'{"url": ["http://example.org"]}', "application/json", 400),
        (
            b'{"boxes": ' + b"[" * 5000 + b"]" * 5000 + b', "image": "AA=="}',
            "application/json",
            400,
        ),
        (b"hello", "text/plain", 415),
        (b"nonsense", "multipart/form-data; boundary=x", 400),
        (b"nonsense", "multipart/form-data", 400),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400),
        (b"", "image/png", 400),
        (b"\xff\xfe\x00", "application/json", 400),
    ],
)
def test_bodies_that_make_no_sense(client: TestClient, body: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/remove", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert sentence(answer)


def test_broken_pictures_are_refused_in_one_sentence(client: TestClient) -> None:
    whole = disc_file()
    noise = np.random.default_rng(0)
    for data in (whole[:40], whole[:-30], b"GIF89a", b"\x89PNG\r\n\x1a\n" + whole, b"MZ" * 100):
        answer = client.post("/v1/remove", files={"file": data})
        assert answer.status_code == 400, data[:20]
        assert sentence(answer)
    for _ in range(60):
        spoiled = bytearray(whole)
        for place in noise.integers(8, len(whole), 4):
            spoiled[place] = noise.integers(256)
        answer = client.post("/v1/remove", files={"file": bytes(spoiled)})
        assert answer.status_code in (200, 400)


def test_a_bomb_is_refused_by_its_header(client: TestClient) -> None:
    header = b"IHDR" + struct.pack(">2L5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    packed = header + struct.pack(">L", zlib.crc32(header))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + packed + disc_file()[33:]
    answer = client.post("/v1/remove", files={"file": data})
    assert answer.status_code == 400
    assert "50,000,000" in sentence(answer)


def test_what_is_unexpected_is_logged_and_not_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Options) -> Options:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(Options, "prepared", fail)
    answer = send(client)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("choice", [None, "keep", "strip", "gps"])
def test_what_a_picture_says_of_itself(client: TestClient, choice: str | None) -> None:
    exif = Image.Exif()
    exif[315], exif[0x8825] = "Ann Author", {1: "N", 2: (48.0, 51.0, 29.0)}
    buffer = io.BytesIO()
    Image.open(io.BytesIO(disc_file())).save(buffer, "PNG", exif=exif, dpi=(300, 300))
    fields = {} if choice is None else {"metadata": choice}
    answer = client.post("/v1/remove", json={"image": base64_of(buffer.getvalue()), **fields})
    if choice == "gps":
        assert answer.status_code == 400
        assert "should be 'keep' or 'strip'" in sentence(answer)
        return
    made = Image.open(io.BytesIO(answer.content))
    made.load()
    assert ("dpi" in made.info) == (choice != "strip")
    assert set(made.getexif()) == (set() if choice == "strip" else {315, 0x8825})


def test_a_preview_does_not_hide_how_large_a_tiff_is() -> None:
    import tifffile

    from birefnet.serving.service import _pixels_in

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1)
        file.write(np.zeros((60, 50, 3), np.uint16), photometric="rgb")
    assert _pixels_in(buffer.getvalue()) == 3000


def test_presets_are_options_by_name(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[studio]\nbackground = "studio.png"\n')
    write_disc(tmp_path / "studio.png")
    own = with_files(read_presets(path))
    (tmp_path / "studio.png").unlink()  # the server has it already
    with serving(ServerSettings(page=False, presets=own)) as client:
        shop = send(client, preset="shop")
        assert shop.headers["content-type"] == "image/jpeg"
        assert send(client, preset="shop", format="png").headers["content-type"] == "image/png"
        assert send(client, preset="studio").status_code == 200
        refused = send(client, preset="shoop")
        assert refused.status_code == 400
        assert sentence(refused).endswith("choose one of shop, sticker, avatar, studio")
