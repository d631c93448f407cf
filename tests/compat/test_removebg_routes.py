"""remove.bg's API: the requests of its documentation and clients, and the answers they read."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.compat.removebg.fields import PICTURES, SCHEMA
from birefnet.compat.removebg.placement import Length, Placement, place, shrink
from birefnet.imaging.box import Box
from birefnet.imaging.picture import Picture
from birefnet.matte import Matte
from birefnet.serving.errors import FetchError
from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings
from compat_client import KEY, black_file, disc_file, pixels_of, serving

PATH = "/v1.0/removebg"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def send(client: TestClient, data: bytes | None = None, **fields: Any) -> Any:
    data = disc_file() if data is None else data
    return client.post(PATH, files={"image_file": ("file.png", data)}, data=fields)


def error_of(answer: Any) -> str:
    (error,) = answer.json()["errors"]
    assert isinstance(error["title"], str)
    assert error["title"]
    return str(error["code"])


def test_the_first_example_of_its_documentation(client: TestClient) -> None:
    answer = client.post(
        PATH,
        files={"image_file": ("file.jpg", disc_file(format="jpeg"))},
        data={"size": "auto"},
        headers={"X-Api-Key": "INSERT_YOUR_API_KEY_HERE"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    pixels = pixels_of(answer.content)
    assert pixels.shape == (48, 64, 4)
    assert (pixels[24, 32, 3], pixels[0, 0, 3]) == (255, 0)
    headers = answer.headers
    assert (headers["X-Width"], headers["X-Height"]) == ("64", "48")
    assert headers["X-Type"] == "other"
    assert headers["X-Credits-Charged"] == "0"
    assert int(headers["X-RateLimit-Limit"]) >= int(headers["X-RateLimit-Remaining"]) > 0
    assert headers["X-RateLimit-Reset"].isdecimal()
    box = [int(headers[f"X-Foreground-{side}"]) for side in ("Top", "Left", "Width", "Height")]
    assert np.allclose(box, [8, 16, 32, 32], atol=2)


@pytest.mark.parametrize("how", ["multipart", "form", "json"])
def test_base64_in_every_body(client: TestClient, how: str) -> None:
    fields = {"image_file_b64": base64.b64encode(disc_file()).decode(), "size": "auto"}
    if how == "json":
        answer = client.post(PATH, json=fields)
    elif how == "form":
        answer = client.post(PATH, data=fields)
    else:
        answer = client.post(PATH, files={name: (None, text) for name, text in fields.items()})
    assert answer.status_code == 200
    assert pixels_of(answer.content).shape == (48, 64, 4)


def test_json_instead_of_a_file(client: TestClient) -> None:
    answer = client.post(
        PATH,
        json={"image_file_b64": "data:image/png;base64," + base64.b64encode(disc_file()).decode()},
        headers={"Accept": "application/json"},
    )
    data = answer.json()["data"]
    assert set(data) == {
        "result_b64",
        "foreground_top",
        "foreground_left",
        "foreground_width",
        "foreground_height",
    }
    assert pixels_of(base64.b64decode(data["result_b64"])).shape == (48, 64, 4)


def test_a_url(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(self: Service, url: str, **_: Any) -> bytes:
        if "404" in url:
            raise FetchError("the URL's server answered 404")
        return disc_file()

    monkeypatch.setattr(Service, "fetch", fetched)
    given = {"image_url": "https://www.remove.bg/example.jpg", "size": "auto"}
    assert client.post(PATH, data=given).status_code == 200
    missing = client.post(PATH, data={"image_url": "http://example.com/404.png", "size": "auto"})
    assert (missing.status_code, error_of(missing)) == (400, "failed_image_download")
    ground = send(client, bg_image_url="http://example.com/404.png")
    assert error_of(ground) == "failed_bg_download"


def test_formats(client: TestClient) -> None:
    kinds = {
        "png": ("image/png", (48, 64, 4)),
        "webp": ("image/webp", (48, 64, 4)),
        "jpg": ("image/jpeg", (48, 64, 3)),
        "auto": ("image/png", (48, 64, 4)),
    }
    for format, (kind, shape) in kinds.items():
        answer = send(client, format=format)
        assert answer.headers["content-type"] == kind
        assert pixels_of(answer.content).shape == shape
    white = pixels_of(send(client, format="jpg").content)
    assert white[0, 0].min() > 250
    coloured = send(client, format="auto", bg_color="green")
    assert coloured.headers["content-type"] == "image/jpeg"


def test_a_zip_holds_colours_and_alpha(client: TestClient) -> None:
    answer = send(client, format="zip", size="full")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        colour, alpha = (pixels_of(archive.read(name)) for name in archive.namelist())
    assert colour.shape == (48, 64, 3)
    assert alpha.shape == (48, 64)
    assert np.array_equal(alpha, pixels_of(send(client, size="full").content)[..., 3])
    assert abs(int(colour[24, 32, 0]) - 235) < 6


def test_channels(client: TestClient) -> None:
    alpha = pixels_of(send(client, channels="alpha").content)
    assert alpha.shape == (48, 64)
    assert np.array_equal(alpha, pixels_of(send(client).content)[..., 3])


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("81d4fa", [129, 212, 250]),
        ("#81d4fa", [129, 212, 250]),
        ("fff", [255, 255, 255]),
        ("81d4fa77", [129, 212, 250, 119]),
        ("green", [0, 128, 0]),
    ],
)
def test_background_colours(client: TestClient, colour: str, expected: list[int]) -> None:
    assert pixels_of(send(client, bg_color=colour, format="png").content)[0, 0].tolist() == expected


def test_a_background_picture(client: TestClient) -> None:
    files = {
        "image_file": ("file.png", disc_file()),
        "bg_image_file": ("ground.png", black_file(10, 10)),
    }
    answer = client.post(PATH, files=files, data={"format": "png"})
    assert pixels_of(answer.content)[0, 0].tolist() == [0, 0, 0]
    both = client.post(PATH, files=files, data={"bg_color": "red"})
    assert error_of(both) == "multiple_bg_sources"


@pytest.mark.parametrize(
    ("size", "width", "height"),
    [
        ("preview", 577, 433),
        ("small", 577, 433),
        ("regular", 577, 433),
        ("medium", 1200, 900),
        ("full", 1200, 900),
        ("4k", 1200, 900),
        ("50MP", 1200, 900),
        ("auto", 1200, 900),
    ],
)
def test_sizes(client: TestClient, size: str, width: int, height: int) -> None:
    answer = send(client, disc_file(900, 1200), size=size)
    assert (answer.headers["X-Width"], answer.headers["X-Height"]) == (str(width), str(height))
    # The foreground is told in the pixels of the picture that was sent.
    assert abs(int(answer.headers["X-Foreground-Width"]) - 600) < 40


def test_the_default_size(client: TestClient) -> None:
    large = {"image_file": ("file.png", disc_file(900, 1200))}
    assert client.post(PATH, files=large).headers["X-Width"] == "577"
    assert client.post("/removebg", files=large).headers["X-Width"] == "1200"


def test_crop_and_margins(client: TestClient) -> None:
    plain = send(client, crop="true")
    width, height = int(plain.headers["X-Width"]), int(plain.headers["X-Height"])
    assert abs(width - 32) < 3
    assert abs(height - 32) < 3
    for margin, wider, higher in (
        ("10px", 20, 20),
        ("5px 10px", 20, 10),
        ("1px 2px 3px 4px", 6, 4),
        ("50%", width, height),
    ):
        answer = send(client, crop="true", crop_margin=margin)
        size = int(answer.headers["X-Width"]), int(answer.headers["X-Height"])
        assert np.allclose(size, (width + wider, height + higher), atol=1)


def test_scale_and_position(client: TestClient) -> None:
    alpha = pixels_of(send(client, scale="50%").content)[..., 3]
    box = Box.around(alpha, 127)
    assert box is not None
    assert abs(box.height - 24) <= 2
    assert abs(box.top - 12) <= 1
    assert abs(box.left - 20) <= 1
    corner = Box.around(pixels_of(send(client, position="0% 100%").content)[..., 3], 127)
    assert corner is not None
    assert corner.left <= 1
    assert corner.bottom >= 47


def test_a_region_of_interest(client: TestClient) -> None:
    for roi in ("50% 0% 100% 100%", "32px 0px 64px 48px", "32px 0% 100% 100%"):
        alpha = pixels_of(send(client, roi=roi).content)[..., 3]
        assert alpha[:, :32].max() == 0
        assert alpha[24, 36] > 200


def test_a_shadow(client: TestClient) -> None:
    plain = pixels_of(send(client).content)[..., 3].astype(int)
    for fields in ({"add_shadow": "true"}, {"shadow_type": "drop", "shadow_opacity": "80"}):
        with_shadow = pixels_of(send(client, **fields).content)[..., 3].astype(int)
        assert (with_shadow - plain).max() > 20


def test_the_type_is_echoed(client: TestClient) -> None:
    assert send(client, type="car").headers["X-Type"] == "car"
    assert "X-Type" not in send(client, type_level="none").headers


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"format": "bmp"}, "invalid_format"),
        ({"size": "huge"}, "invalid_size"),
        ({"type": "cloud"}, "invalid_type"),
        ({"channels": "rgb"}, "invalid_channels"),
        ({"roi": "1 2 3"}, "invalid_roi"),
        ({"roi": "a b c d"}, "invalid_roi"),
        ({"roi": "10px 20% 30px 40px"}, "invalid_roi"),
        ({"roi": "50% 0% 50% 100%"}, "roi_region_empty"),
        ({"roi": "0px 0px 999px 10px"}, "roi_exceeds_bounds"),
        ({"roi": "0% 0% 120% 10%"}, "roi_exceeds_bounds"),
        ({"crop": "perhaps"}, "invalid_crop"),
        ({"crop_margin": "600px"}, "invalid_crop_margin"),
        ({"crop_margin": "51%"}, "invalid_crop_margin"),
        ({"crop_margin": "1px 2px 3px"}, "invalid_crop_margin"),
        ({"scale": "5%"}, "invalid_scale"),
        ({"scale": "50px"}, "invalid_scale"),
        ({"position": "left"}, "invalid_position"),
        ({"position": "120%"}, "invalid_position"),
        ({"bg_color": "no colour"}, "invalid_bg_color"),
        ({"shadow_opacity": "-1"}, "invalid_shadow_opacity"),
    ],
)
def test_each_bad_field_has_its_code(client: TestClient, fields: dict[str, str], code: str) -> None:
    answer = send(client, **fields)
    assert (answer.status_code, error_of(answer)) == (400, code)


@pytest.mark.parametrize("name", sorted({*SCHEMA} - {*PICTURES}))
def test_what_is_no_text_is_not_passed_over(client: TestClient, name: str) -> None:
    text = base64.b64encode(disc_file()).decode()
    for value in (["1"], {"value": "1"}):
        answer = client.post(PATH, json={"image_file_b64": text, name: value})
        assert (answer.status_code, error_of(answer)) == (400, f"invalid_{name}")
    answer = client.post(PATH, files={"image_file": disc_file(), name: ("a.txt", b"1")})
    assert error_of(answer) == f"invalid_{name}"


def test_empty_fields_count_as_left_out(client: TestClient) -> None:
    empty = dict.fromkeys(("roi", "crop_margin", "scale", "position", "bg_color", "format"), "")
    assert send(client, **empty).status_code == 200
    nothing = dict.fromkeys(("roi", "bg_image_url", "bg_color", "image_url"))
    text = base64.b64encode(disc_file()).decode()
    assert client.post(PATH, json={"image_file_b64": text, **nothing}).status_code == 200


def test_sources_that_cannot_be_used(client: TestClient) -> None:
    nothing = client.post(PATH, data={"size": "auto"})
    assert (nothing.status_code, error_of(nothing)) == (400, "missing_source")
    both = send(client, image_url="https://example.org/a.png")
    assert (both.status_code, error_of(both)) == (400, "multiple_sources")
    assert error_of(send(client, b"no picture")) == "failed_to_read_image"
    assert error_of(send(client, black_file())) == "unknown_foreground"
    private = client.post(PATH, data={"image_url": "http://169.254.169.254/latest"})
    assert (private.status_code, error_of(private)) == (400, "invalid_image_url")
    assert error_of(client.post(PATH, content=b"{", headers={"Content-Type": "application/json"}))


def test_the_account(client: TestClient) -> None:
    for path in ("/v1.0/account", "/account"):
        attributes = client.get(path).json()["data"]["attributes"]
        assert attributes["credits"]["total"] > 0
        assert set(attributes["credits"]) == {"total", "subscription", "payg", "enterprise"}
        assert set(attributes["api"]) == {"free_calls", "sizes"}


def test_keys_and_limits_have_its_form() -> None:
    settings = ServerSettings(page=False, api_keys=(KEY,), max_bytes=10_000)
    with serving(settings) as client:
        answer = send(client)
        assert (answer.status_code, error_of(answer)) == (403, "auth_failed")
        assert send(client).headers["content-type"] == "application/json"
        client.headers["X-Api-Key"] = KEY
        assert send(client).status_code == 200
        large = send(client, b"\x89PNG" + bytes(20_000))
        assert (large.status_code, error_of(large)) == (400, "file_too_large")


def test_what_the_python_client_sends(client: TestClient) -> None:
    """The package `removebg` 0.4: `None` fields are left out by requests, sizes are old names."""
    for source in (
        {"files": {"image_file": ("photo.png", disc_file())}, "data": {"size": "regular"}},
        {"data": {"image_file_b64": base64.b64encode(disc_file()).decode(), "size": "4k"}},
    ):
        answer = client.post(PATH, headers={"X-Api-Key": "x"}, **source)  # type: ignore[arg-type]
        assert answer.status_code == 200


def matte(height: int, width: int, box: Box) -> Matte:
    alpha = np.zeros((height, width), np.float32)
    alpha[box.slices] = 1
    pixels = np.where(alpha[..., None] > 0, 200, 0).astype(np.uint8).repeat(3, axis=2)
    return Matte(alpha, Picture(pixels))


@pytest.mark.parametrize("seed", range(40))
def test_the_subject_lands_where_it_is_sent(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(8, 60, 2))
    box = Box(
        int(random.integers(0, height - 4)), int(random.integers(0, width - 4)),
        int(random.integers(4, 30)), int(random.integers(4, 30)),
    )  # fmt: skip
    given = matte(height, width, box)
    box = Box.around(given.alpha)  # type: ignore[assignment]
    margins = tuple(Length(float(value)) for value in random.integers(0, 9, 4))
    scale = float(random.uniform(0.5, 1)) if seed % 2 else None
    position = (float(random.random()), float(random.random())) if seed % 3 else None
    placement = Placement(bool(seed % 5), margins, scale, position)  # type: ignore[arg-type]
    placed = place(given, placement)
    landed = Box.around(placed.alpha)
    assert landed is not None
    if placement.crop:
        size = (box.height + margins[0].value + margins[2].value,
                box.width + margins[1].value + margins[3].value)  # fmt: skip
        assert (placed.height, placed.width) == size
    factor = 1.0
    if scale is not None:
        factor = scale * min(placed.height / box.height, placed.width / box.width)
        position = position or (0.5, 0.5)
    assert abs(landed.height - box.height * factor) <= 1 + factor
    assert abs(landed.width - box.width * factor) <= 1 + factor
    if position is not None:
        assert abs(landed.left - position[0] * (placed.width - box.width * factor)) <= 1 + factor
        assert abs(landed.top - position[1] * (placed.height - box.height * factor)) <= 1 + factor
    # No dark fringe: colours are weighted by alpha when they are resized.
    assert placed.picture.pixels[placed.alpha > 0.02].min() >= 195


def test_a_speck_is_enlarged_to_the_canvas_and_no_more() -> None:
    placed = place(matte(400, 400, Box(7, 9, 1, 1)), Placement(scale=1.0))
    assert placed.alpha.shape == (400, 400)


def test_shrinking_keeps_the_shape() -> None:
    small = shrink(matte(300, 400, Box(10, 10, 50, 50)), 3000)
    assert small.height * small.width <= 3000
    assert abs(small.width / small.height - 4 / 3) < 0.05
