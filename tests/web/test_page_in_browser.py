"""The page that runs in a browser alone, in a headless Chromium."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("selenium")

from selenium.webdriver.common.keys import Keys

import birefnet
import page_browser
from birefnet.cli.in_browser import server_of
from birefnet.export.web import write_site
from birefnet.serving.running import address, bind
from page_browser import CHROMIUM, DRIVER, Page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium or its driver is not installed"
)

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = EXAMPLES / "chelsea.jpg"
PLAIN = "http://127.0.0.1"


class SitePage(Page):
    """The page and the browser that it runs in."""

    def open(self, width: int = 1280, height: int = 900) -> None:
        self.visit(width, height)
        self.ready()

    def visit(self, width: int = 1280, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(self.url)

    def ready(self) -> str:
        """Wait until the network is loaded; what the page says then."""
        self.wait(lambda: self.run("return document.body.dataset.ready"))
        return self.find(".engine").text

    def bring(self, *paths: Path) -> None:
        """Choose pictures, and wait for the results."""
        before = len(self.all(".film li"))
        self.find(".files").send_keys("\n".join(map(str, paths)))
        self.wait(lambda: len(self.all(".film li [data-state=done]")) == before + len(paths))

    def console(self) -> str:
        return " ".join(line["message"] for line in self.driver.get_log("browser"))

    def saved(self, name: str) -> Image.Image:
        self.find(".panel [type=submit]").click()
        return self.taken(name)

    def taken(self, name: str) -> Image.Image:
        """A file that was saved, which is not kept."""
        path = self.downloaded(name)
        data = path.read_bytes()
        path.unlink()
        return Image.open(io.BytesIO(data))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_browser, "PATIENCE", 300.0)  # of fourteen pictures on a busy machine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_site("nano", folder)
    return folder


@pytest.fixture(scope="module")
def browser(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SitePage]:
    with bind("127.0.0.1", 0) as listening:
        server = server_of(site, listening)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = SitePage(f"{address(listening)}/", tmp_path_factory.mktemp("browser"))
        yield page
        page.quit()
        server.shutdown()


@pytest.fixture
def page(browser: SitePage) -> SitePage:
    browser.open()
    return browser


@pytest.fixture(scope="module")
def expected() -> NDArray[np.uint8]:
    """What the command makes of the photo, R, G, B and alpha."""
    return np.asarray(birefnet.load("nano", engine="onnx").predict(PHOTO).cutout())


def difference(result: Image.Image, expected: NDArray[np.uint8]) -> NDArray[np.int16]:
    pixels = np.asarray(result)
    assert pixels.shape == expected.shape
    return np.abs(pixels.astype(np.int16) - expected)


def pictures(folder: Path) -> list[Path]:
    """Pictures of many kinds; PNGs give the browser and Python the same pixels."""
    photo = Image.open(PHOTO).convert("RGB")
    photo.save(folder / "photo.png")
    photo.resize((1600, 1100)).save(folder / "large.png")
    photo.resize((30, 700)).save(folder / "narrow.png")
    photo.resize((9, 4)).save(folder / "tiny.png")
    photo.convert("L").save(folder / "grey.png")
    photo.quantize(64).save(folder / "palette.png")
    holes = np.asarray(photo.convert("RGBA")).copy()
    holes[:80, :200] = 0
    Image.fromarray(holes).save(folder / "holes.png")
    upright = Image.Exif()
    upright[0x0112] = 6  # to be turned by a quarter
    photo.save(folder / "turned.jpg", exif=upright)
    photo.save(folder / "rough.jpg", quality=40, subsampling=2)
    return sorted(folder.iterdir())


def test_alpha_is_that_of_the_command(page: SitePage, tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    page.bring(*paths)
    page.find(".zip").click()
    archive = page.downloaded("cutouts.zip")
    predictor = birefnet.load("nano", engine="onnx")
    with zipfile.ZipFile(archive) as packed:
        assert len(packed.namelist()) == len(paths) > 8
        for path in paths:
            cutout = Image.open(packed.open(f"{path.stem}.cutout.png"))
            expected = np.asarray(predictor.predict(path).cutout())
            differs = difference(cutout, expected)[..., 3]
            assert differs.mean() <= 0.5, path.name
            assert path.suffix == ".jpg" or differs.max() <= 2, path.name
    archive.unlink()


def test_colours_of_soft_edges_are_those_of_the_command(
    page: SitePage, expected: NDArray[np.uint8]
) -> None:
    page.bring(PHOTO)
    differs = difference(page.saved("chelsea.cutout.png"), expected)
    visible = expected[..., 3] > 40  # canvases multiply colours by alpha, in 8 bits
    assert differs[visible, :3].max() <= 4
    assert differs[visible, :3].mean() < 0.5


def test_nothing_is_asked_of_another_host(page: SitePage) -> None:
    page.bring(PHOTO)
    asked = page.requests()
    assert asked
    assert not [url for url in asked if url.startswith("http") and not url.startswith(page.url)]
    refused = page.driver.execute_async_script(
        "fetch('https://example.org/').catch((error) => arguments[0](error.message))"
    )
    assert refused  # by the page's own policy
    assert "violates the document's Content Security Policy" in page.console()


def test_backgrounds_crop_and_formats(
    page: SitePage, expected: NDArray[np.uint8], tmp_path: Path
) -> None:
    page.bring(EXAMPLES / "rocket.jpg")
    whole = page.saved("rocket.cutout.png")
    page.find("[name=crop]").click()
    cropped = page.saved("rocket.cutout.png")
    box = Image.fromarray((np.asarray(whole)[..., 3] >= 13).astype(np.uint8)).getbbox()
    assert box is not None
    sides = np.subtract(box[2:], box[:2])
    assert np.abs(cropped.size - sides).max() <= 1  # alpha is rounded in the file
    page.run("document.querySelector('[name=background][value=colour]').click()")
    page.run("document.querySelector('[name=colour]').value = '#ff0000'")
    page.find("[name=format] [value='image/jpeg']").click()
    red = page.saved("rocket.cutout.jpg")
    assert red.format == "JPEG"
    assert np.abs(np.asarray(red)[0, 0].astype(int) - (255, 0, 0)).max() < 12
    blue = tmp_path / "blue.png"
    Image.new("RGB", (40, 90), (0, 0, 255)).save(blue)
    page.find(".backdrop-file").send_keys(str(blue))
    page.run("document.querySelector('[name=background][value=picture]').click()")
    page.find("[name=format] [value='image/webp']").click()
    on_blue = page.saved("rocket.cutout.webp")
    assert on_blue.format == "WEBP"
    assert np.abs(np.asarray(on_blue.convert("RGB"))[0, 0].astype(int) - (0, 0, 255)).max() < 12


@pytest.mark.parametrize(
    ("event", "carrier"), [("ClipboardEvent", "clipboardData"), ("DragEvent", "dataTransfer")]
)
def test_pictures_are_dropped_and_pasted(page: SitePage, event: str, carrier: str) -> None:
    page.run(
        """const [event, carrier] = arguments;
        const data = new DataTransfer();
        for (const name of ["a.png", "b.png"]) data.items.add(new File(["?"], name));
        const name = event === "DragEvent" ? "drop" : "paste";
        dispatchEvent(new window[event](name, { [carrier]: data, cancelable: true }));""",
        event,
        carrier,
    )
    page.wait(lambda: "b.png: this is not a picture" in page.find(".problem").text)
    page.wait(lambda: page.find(".drop").is_displayed())


def test_several_pictures_come_as_a_zip(page: SitePage, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    twin = tmp_path / "again" / PHOTO.name
    shutil.copy(PHOTO, twin)
    page.bring(PHOTO, twin)
    page.find(".zip").click()
    path = page.downloaded("cutouts.zip")
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == ["chelsea.cutout.png", "chelsea.cutout.2.png"]
        assert Image.open(packed.open("chelsea.cutout.2.png")).size == Image.open(PHOTO).size
    path.unlink()


def test_all_of_it_works_by_keys(page: SitePage) -> None:
    def press(*keys: str) -> None:
        page.driver.switch_to.active_element.send_keys(*keys)

    page.find("[data-example='leaf.jpg']").send_keys(Keys.ENTER)
    page.wait(lambda: page.all(".film li [data-state=done]"))
    assert page.run("return document.activeElement.closest('.film li') !== null")  # not lost
    page.find(".slide").send_keys(Keys.HOME)
    assert page.find(".slide").get_attribute("value") == "0"
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.find(".slide").get_attribute("aria-valuetext") == "2 % original"
    outline = page.run(
        "return getComputedStyle(document.querySelector('.handle'), '::before').outline"
    )
    assert "3px" in outline
    page.find("[name=background]").send_keys(Keys.ARROW_RIGHT)
    assert page.find("[name=background][value=colour]").is_selected()
    page.find("[name=crop]").send_keys(Keys.SPACE)
    assert page.find(".frame .crop").is_displayed()
    page.find(".panel [type=submit]").send_keys(Keys.ENTER)
    assert page.taken("leaf.cutout.png").size[0] > 100
    page.find(".remove").send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.textContent") == "Choose pictures"
    assert not page.unnamed()


def test_a_phone_has_room_for_it(browser: SitePage) -> None:
    browser.open(width=390, height=844)
    for _ in range(2):
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= 390
        small = browser.run(
            "return [...document.querySelectorAll('button, select, .row, fieldset span')]"
            ".filter((e) => e.offsetHeight && e.offsetHeight < 44).map((e) => e.outerHTML)"
        )
        assert not small
        browser.bring(PHOTO)


def test_what_is_no_picture_is_said_in_a_sentence(page: SitePage, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    page.find(".files").send_keys(str(text))
    page.wait(lambda: page.find(".problem").text)
    assert page.find(".problem").text == (
        "notes.txt: this is not a picture that the browser can read; give a JPEG, PNG, WebP, AVIF "
        "or GIF file."
    )
    assert page.find(".drop").is_displayed()
    page.bring(PHOTO)  # and goes on
    assert not page.find(".problem").is_displayed()


def test_from_a_file_it_says_what_it_needs(browser: SitePage, site: Path) -> None:
    browser.driver.get((site / "index.html").as_uri())
    assert "over https or localhost" in browser.find(".problem").text


def test_a_plain_server_is_enough_and_then_none(
    site: Path, tmp_path: Path, expected: NDArray[np.uint8]
) -> None:
    """Threads come with the service worker, and everything stays after the first visit."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = SitePage(f"{PLAIN}:{server.server_port}/", tmp_path)
    try:
        page.visit()
        assert "works offline" in page.ready()
        assert page.run("return crossOriginIsolated")
        server.shutdown()
        server.server_close()
        for visit in (page.driver.refresh, page.visit):  # a reload may bring back a kept page
            visit()
            page.ready()
            assert page.run("return crossOriginIsolated")
        page.bring(PHOTO)
        assert difference(page.saved("chelsea.cutout.png"), expected)[..., 3].max() <= 2
    finally:
        page.quit()
