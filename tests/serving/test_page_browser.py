"""The page in a headless Chromium, as a visitor meets it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("gradio")
pytest.importorskip("selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from fakes import disc, write_disc
from page_browser import CHROMIUM, DRIVER, Page, serving

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium or its driver is not installed"
)

RESULT = ".stage-after img"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with serving() as url:
        page = Page(url, tmp_path_factory.mktemp("browser"))
        yield page
        page.quit()


@pytest.fixture
def page(browser: Page) -> Page:
    browser.open()
    return browser


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc(tmp_path_factory.mktemp("pictures") / "disc.png", height=96, width=128)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two discs side by side."""
    path = tmp_path_factory.mktemp("pictures") / "pair.png"
    Image.fromarray(np.concatenate([disc(96, 96), disc(96, 96)], axis=1)).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = pytest.importorskip("video.clips")
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return Path(clips.write_clip(path, frames=3, picture=lambda number: disc()))


def test_a_picture_gives_a_result_and_a_file(page: Page, picture: Path) -> None:
    page.upload(picture)
    assert page.pixel(RESULT, 0.5, 0.5)[3] == 255
    assert page.pixel(RESULT, 0.02, 0.02)[3] == 0
    assert "The subject takes" in page.find(".stage-verdict").text
    assert page.find(RESULT).get_attribute("alt")
    page.find("[data-do=save]").click()
    saved = np.asarray(Image.open(page.downloaded("disc.cutout.png")))
    assert saved.shape == (96, 128, 4)
    assert saved[48, 64, 3] == 255
    assert saved[0, 0, 3] == 0


def test_the_slider_moves_by_keys_and_pointer(page: Page, picture: Path) -> None:
    page.upload(picture)
    slide = page.find(".stage-slide")
    page.wait(lambda: slide.get_attribute("value") == "40")  # the first result reveals itself
    slide.send_keys(Keys.HOME)
    assert slide.get_attribute("value") == "0"
    slide.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert slide.get_attribute("value") == "2"
    assert "2 % original" in slide.get_attribute("aria-valuetext")
    width = slide.rect["width"]
    ActionChains(page.driver).move_to_element_with_offset(
        slide, int(width * 0.25), 0
    ).click().perform()
    value = int(slide.get_attribute("value"))
    assert 65 < value < 85
    clip = page.run(
        "return getComputedStyle(document.querySelector('.stage-after')).clipPath",
    )
    assert f"{value}%" in clip


def test_a_box_says_what_is_meant(page: Page, pair: Path) -> None:
    page.upload(pair)
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 255
    page.find("[data-tool=box]").click()
    marks = page.find(".stage-marks")
    width, height = int(marks.rect["width"]), int(marks.rect["height"])
    page.next_result(
        lambda: (
            ActionChains(page.driver)
            .move_to_element_with_offset(marks, -int(width * 0.48), -int(height * 0.45))
            .click_and_hold()
            .move_by_offset(int(width * 0.46), int(height * 0.9))
            .release()
            .perform()
        )
    )
    assert page.pixel(RESULT, 0.25, 0.5)[3] == 255
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 0
    page.next_result(page.find("[data-do=clear]").click)
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 255
    assert not page.find("[data-do=clear]").is_enabled()


def test_a_box_can_be_drawn_with_keys(page: Page, pair: Path) -> None:
    page.upload(pair)
    page.find("[data-tool=box]").click()
    marks = page.find(".stage-marks")
    marks.send_keys(Keys.ENTER)
    assert len(page.all(".mark-box")) == 1
    marks.send_keys(*[Keys.ARROW_LEFT] * 13)
    keys = ActionChains(page.driver).key_down(Keys.SHIFT)
    for _ in range(2):
        keys = keys.send_keys(Keys.ARROW_LEFT)
    keys.key_up(Keys.SHIFT).perform()
    page.next_result(lambda: marks.send_keys(Keys.ENTER))
    assert page.pixel(RESULT, 0.25, 0.5)[3] == 255
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 0


def test_points_and_the_brush_say_what_is_meant(page: Page, pair: Path) -> None:
    page.upload(pair)
    marks = page.find(".stage-marks")
    page.find("[data-tool=point]").click()
    width, height = int(marks.rect["width"]), int(marks.rect["height"])
    at = ActionChains(page.driver).move_to_element_with_offset
    page.next_result(lambda: at(marks, width // 4, 0).click().perform())
    assert page.pixel(RESULT, 0.25, 0.5)[3] == 0
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 255
    page.find("[data-tool=brush]").click()
    at = ActionChains(page.driver).move_to_element_with_offset
    page.next_result(
        lambda: (
            at(marks, -width // 4, -height // 8)
            .click_and_hold()
            .move_by_offset(0, height // 4)
            .release()
            .perform()
        )
    )
    assert page.pixel(RESULT, 0.25, 0.5)[3] == 255
    assert page.pixel(RESULT, 0.75, 0.5)[3] == 0
    assert not page.all(".mark-dot"), "the brush takes the place of the points"
    page.find("[data-tool=other]").click()
    at = ActionChains(page.driver).move_to_element_with_offset
    at(marks, 0, 0).click().perform()
    assert "click on the object" in page.find(".stage-help").text


def test_erase_and_restore_are_saved(page: Page, picture: Path) -> None:
    page.upload(picture)
    marks = page.find(".stage-marks")

    def paint(tool: str, x: float) -> None:
        page.find(f"[data-tool={tool}]").click()
        width = int(marks.rect["width"])
        start = ActionChains(page.driver).move_to_element_with_offset(marks, int(x * width), -5)
        page.next_result(start.click_and_hold().move_by_offset(0, 10).release().perform)

    paint("erase", 0)
    assert page.pixel(RESULT, 0.5, 0.5)[3] == 0
    page.next_result(page.find("[data-do=undo]").click)
    assert page.pixel(RESULT, 0.5, 0.5)[3] == 255
    keys = ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("y").key_up(Keys.CONTROL)
    marks.send_keys(Keys.ESCAPE)
    page.next_result(keys.perform)
    assert page.pixel(RESULT, 0.5, 0.5)[3] == 0
    paint("restore", -0.45)
    assert page.pixel(RESULT, 0.05, 0.5)[3] == 255
    page.find("[data-do=save]").click()
    page.wait(page.is_idle)
    saved = np.asarray(Image.open(page.downloaded("disc.cutout.png")))
    assert (saved[48, 64, 3], saved[48, 6, 3]) == (0, 255)
    page.find("[data-tool=point]").click()
    page.next_result(ActionChains(page.driver).move_to_element(marks).click().perform)
    assert "is gone from the new cut-out" in page.find(".stage-help").text
    assert page.pixel(RESULT, 0.5, 0.5)[3] == 255


def test_tools_work_when_the_picture_is_enlarged(page: Page, picture: Path) -> None:
    page.upload(picture)
    frame, shown = page.find(".stage-frame"), page.find(".stage-zoom output")
    width = frame.rect["width"]
    page.find("[data-tool=erase]").click()
    marks = page.find(".stage-marks")
    for _ in range(6):
        page.find("[data-do=zoom_in]").click()
    assert shown.text == "800 %"
    assert not page.find("[data-do=zoom_in]").is_enabled()
    assert frame.rect["width"] == pytest.approx(8 * width, rel=0.01)
    fits = "return document.documentElement.scrollWidth <= innerWidth"
    assert page.run(fits)
    page.find("[data-tool=move]").click()
    view = page.find(".stage-view")
    drag = ActionChains(page.driver).move_to_element(view).click_and_hold()
    before = page.run("return arguments[0].scrollLeft", view)
    drag.move_by_offset(-50, -20).release().perform()
    assert page.run("return arguments[0].scrollLeft", view) == pytest.approx(before + 50, abs=2)
    ActionChains(page.driver).send_keys(Keys.ARROW_LEFT).perform()
    page.find("[data-tool=erase]").click()
    middle = """const [view, frame] = [...arguments].map((node) => node.getBoundingClientRect());
        return [(view.x + view.width / 2 - frame.x) / frame.width,
                (view.y + view.height / 2 - frame.y) / frame.height];"""
    at = page.run(middle, view, frame)
    page.next_result(ActionChains(page.driver).move_to_element(view).click().perform)
    assert page.pixel(RESULT, *at)[3] == 0
    page.run(
        """arguments[0].dispatchEvent(new WheelEvent("wheel",
        { ctrlKey: true, deltaY: 600, bubbles: true, cancelable: true }))""",
        marks,
    )
    assert shown.text == "200 %"
    ActionChains(page.driver).send_keys("-", "-", "+").perform()
    assert shown.text == "141 %"
    ActionChains(page.driver).send_keys("0").perform()
    assert frame.rect["width"] == pytest.approx(width, abs=1)


def test_a_part_is_refined(page: Page, picture: Path) -> None:
    page.upload(picture)
    page.find("[data-tool=refine]").click()
    marks = page.find(".stage-marks")
    marks.send_keys(Keys.ENTER)
    page.next_result(lambda: marks.send_keys(Keys.ENTER))
    assert not page.find(".stage-problem").text
    assert len(page.all(".mark-box.refine")) == 0
    page.next_result(page.find("[data-do=undo]").click)


def test_backgrounds_change_the_result(page: Page, picture: Path) -> None:
    page.upload(picture)

    def choose(name: str) -> None:
        label = next(label for label in page.all("#kind label") if label.text == name)
        page.next_result(label.click)

    shown = [label.text for label in page.all("#kind label") if label.is_displayed()]
    assert shown == ["Transparent", "Colour", "Picture", "Blurred"]
    more = page.find("#kind-more")
    more.click()
    assert more.get_attribute("aria-expanded") == "true"
    choose("Mask")
    more.click()
    assert len([label for label in page.all("#kind label") if label.is_displayed()]) == 5
    assert page.pixel(RESULT, 0.5, 0.5)[:3] == [255, 255, 255]
    choose("Colour")
    assert page.pixel(RESULT, 0.02, 0.02) == pytest.approx([242, 184, 160, 255], abs=8)
    assert page.find("#colour").is_displayed()
    choose("Blurred")
    assert page.pixel(RESULT, 0.02, 0.02)[3] == 255
    page.find(".stage-foot select").send_keys("JPEG")
    page.find("[data-do=save]").click()
    assert Image.open(page.downloaded("disc.blur.jpg")).mode == "RGB"


def test_a_preset_sets_the_controls(page: Page, picture: Path) -> None:
    page.upload(picture)
    page.find("#preset input").click()
    options = page.wait(lambda: page.all("#preset [role=option]"))
    sticker = next(option for option in options if "Sticker" in option.text)
    page.next_result(sticker.click)
    assert page.find("input[aria-label*=Outline]").get_attribute("value") == "2.5"


def test_pictures_can_be_pasted_and_dropped(page: Page, pair: Path) -> None:
    script = """const [kind, url] = arguments;
        const done = arguments[arguments.length - 1];
        const canvas = document.createElement("canvas");
        canvas.width = 60; canvas.height = 40;
        const pen = canvas.getContext("2d");
        pen.fillRect(0, 0, 60, 40);
        pen.fillStyle = "white"; pen.fillRect(20, 10, 20, 20);
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], kind + ".png", { type: "image/png" }));
          if (kind === "paste") document.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
          else document.querySelector(".stage-drop").dispatchEvent(
            new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
          done(true);
        });"""
    for kind in ("paste", "drop"):
        page.open()
        page.driver.execute_async_script(script, kind)
        page.wait(lambda: page.pixel(RESULT, 0.5, 0.5)[3] == 255)
        assert kind in page.find(".stage-before").get_attribute("alt")


def test_the_camera_takes_a_picture(page: Page) -> None:
    page.find("[data-do=camera]").click()
    page.wait(lambda: page.find(".stage-camera").is_displayed())
    page.wait(lambda: page.run("return document.querySelector('.stage video').videoWidth > 0"))
    page.find("[data-do=snap]").click()
    page.wait(lambda: "camera" in page.find(".stage-before").get_attribute("alt"))
    assert page.run("return document.querySelector('.stage video').srcObject?.active") is not True


def test_problems_are_said_in_a_sentence(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xffnothing")
    page.find(".stage-file").send_keys(str(broken))
    problem = page.find(".stage-problem")
    page.wait(lambda: problem.text)
    assert problem.get_attribute("role") == "alert"
    assert "decoded" in problem.text
    assert "Traceback" not in page.words()
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * (3 * 2**20))
    page.find(".stage-file").send_keys(str(large))
    page.wait(lambda: "larger than 2 MB" in problem.text)
    page.find("[name=url]").send_keys("http://127.0.0.1:1/secret.png", Keys.ENTER)
    page.wait(lambda: "larger" not in problem.text and problem.text)
    assert page.find(".stage-drop").is_displayed()


def test_no_object_is_said_plainly(page: Page, tmp_path: Path) -> None:
    page.upload(write_disc(tmp_path / "dark.png", subject=20))
    assert "No object found" in page.find(".stage-verdict").text


def test_many_pictures_come_back_in_a_zip(page: Page, tmp_path: Path, picture: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xffnothing")
    files = [picture, write_disc(tmp_path / "other.jpg"), broken]
    page.tab("Many pictures")
    page.wait(lambda: page.all("#batch-files input[type=file]"))
    page.find("#batch-files input[type=file]").send_keys("\n".join(map(str, files)))
    page.wait(lambda: len(page.all("#batch-files a[download]")) == len(files))
    page.find("#batch-start").click()
    link = page.wait(lambda: page.find("#batch-report .report-link"))
    assert "2 of 3 pictures done" in page.find("#batch-report").text
    assert "broken.jpg" in page.find("#batch-report").text
    link.click()
    with zipfile.ZipFile(page.downloaded("cutouts.zip")) as archive:
        assert archive.namelist() == ["disc.png", "other.png"]
        with archive.open("disc.png") as file:
            assert np.asarray(Image.open(file)).shape == (96, 128, 4)


def test_a_video_comes_back(page: Page, clip: Path) -> None:
    page.tab("Video")
    page.wait(lambda: page.all("#video-file input[type=file]"))
    page.find("#video-file input[type=file]").send_keys(str(clip))
    page.wait(lambda: page.all("#video-file video"))
    page.find("#video-start").click()
    page.wait(lambda: page.find("#video-report .report-link"))
    assert "3 frames" in page.find("#video-report").text
    size = page.wait(
        lambda: page.run("return document.querySelector('#video-report video').videoWidth")
    )
    assert size == 64


def test_the_words_are_ours(page: Page) -> None:
    for name, words in (("Many pictures", "Drop pictures or zips here"), ("Video", "Drop a video")):
        page.tab(name)
        page.wait(lambda words=words: words in page.words())
        for stock in ("Drop File", "Drop Video", "Click to Upload"):
            assert stock not in page.words()


def test_nothing_is_asked_of_others(page: Page, picture: Path) -> None:
    page.requests()
    page.open()
    page.driver.get_log("browser")  # of earlier visits, which were broken off
    page.upload(picture)
    for name in ("Many pictures", "Video", "Picture"):
        page.tab(name)
    own = (page.url, "data:", "blob:", "chrome:")
    assert not [url for url in page.requests() if not url.startswith(own)]
    errors = [
        line["message"] for line in page.driver.get_log("browser") if line["level"] == "SEVERE"
    ]
    assert not errors


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_the_screen(page: Page, picture: Path, width: int) -> None:
    page.open(width, 844)
    fits = (
        "return document.documentElement.scrollWidth <= innerWidth && innerWidth === arguments[0]"
    )
    assert page.run(fits, width)
    page.upload(picture)
    assert page.run(fits, width)
    for name in ("Many pictures", "Video"):
        page.tab(name)
        page.wait(lambda: page.run(fits, width))


SMALL = """const controls =
      "button, a[href], input, select, textarea, [role=option], [tabindex='0']";
    const target = (node) =>
      node.matches("[type=radio], [type=checkbox]") ? node.closest("label") : node;
    return [...document.querySelectorAll(controls)]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }))
    .filter((node) => !node.closest("[aria-hidden=true]"))
    .map((node) => [node, target(node).getBoundingClientRect()])
    .filter(([, box]) => Math.round(box.width) < 44 || Math.round(box.height) < 44)
    .map(([node, box]) => `${node.outerHTML.slice(0, 120)}: ${box.width} x ${box.height}`);"""


def test_fingers_hit_every_control(page: Page, picture: Path, clip: Path) -> None:
    """44 px on a phone, whatever is shown."""
    page.open(390, 844)

    def check() -> None:
        assert page.run(SMALL) == []

    for accordion in (*page.all(".label-wrap"), page.find("#kind-more")):
        accordion.click()
    check()
    page.find("#shadow input").click()
    page.wait(lambda: page.all("[role=option]"))
    check()
    page.find("[data-do=camera]").click()
    page.wait(lambda: page.find("[data-do=snap]").is_displayed())
    check()
    page.find("[data-do=leave]").click()
    page.upload(picture)
    for tool in page.all(".stage-set button"):
        page.run("arguments[0].click()", tool)
        check()
        assert page.find(".stage-tools").rect["height"] < 110, "two rows"
    page.tab("Many pictures")
    page.wait(lambda: page.all("#batch-files input[type=file]"))
    check()
    page.find("#batch-files input[type=file]").send_keys(str(picture))
    page.wait(lambda: page.all("#batch-files a[download]"))
    check()
    page.find("#batch-start").click()
    page.wait(lambda: page.find("#batch-report .report-link"))
    check()
    page.tab("Video")
    page.wait(lambda: page.all("#video-file input[type=file]"))
    check()
    page.find("#video-file input[type=file]").send_keys(str(clip))
    page.wait(lambda: page.all("#video-file video"))
    check()


def test_the_focus_is_seen_and_kept(page: Page, picture: Path, clip: Path) -> None:
    """At every stop of Tab; and nothing that the keys start loses it."""
    focused = "return document.activeElement?.matches(arguments[0])"
    page.run("arguments[0].focus()", page.find("[data-do=choose]"))
    page.upload(picture)
    assert page.run(focused, ".stage-set [data-tool=compare]")
    page.run("arguments[0].focus()", page.find("[data-do=again]"))
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert page.run(focused, "[data-do=choose]")
    example = page.find("[data-example]")
    page.run("arguments[0].focus()", example)
    page.next_result(ActionChains(page.driver).send_keys(Keys.ENTER).perform)
    assert page.run(focused, ".stage-set [data-tool=compare]")
    for accordion in page.all(".label-wrap"):
        accordion.click()
    seen = """const node = document.activeElement;
        const thumb = document.querySelector(".stage-handle span");
        const { outline } = getComputedStyle(node.matches(".stage-slide") ? thumb : node);
        return [node.outerHTML.slice(0, 120), outline.includes("solid 3px")];"""
    stops = set()
    page.run("document.querySelector('.page-lamp').focus()")
    for _ in range(75):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        name, is_seen = page.run(seen)
        if name.startswith("<body"):
            break
        stops.add(name)
        assert is_seen, name
    assert len(stops) > 50
    for tab, files, path in (("Many pictures", "#batch", picture), ("Video", "#video", clip)):
        page.tab(tab)
        upload = page.wait(lambda files=files: page.find(f"{files}-files, {files}-file"))
        page.wait(lambda upload=upload: upload.find_elements("css selector", "[type=file]"))
        page.run("arguments[0].querySelector('button.upload-container').focus()", upload)
        upload.find_element("css selector", "[type=file]").send_keys(str(path))
        page.wait(lambda files=files: page.run(focused, f"{files}-start"))


def test_screen_readers_and_keys_find_everything(page: Page, picture: Path) -> None:
    assert not page.unnamed()
    page.upload(picture)
    for accordion in page.all(".label-wrap"):
        accordion.click()
    assert not page.unnamed()
    page.run("document.activeElement?.blur(); document.querySelector('.page-lamp').focus()")
    seen = set()
    for _ in range(25):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        seen.add(page.run("return document.activeElement.className + document.activeElement.name"))
    names = " ".join(map(str, seen))
    assert "stage-slide" in names
    assert page.run("return document.documentElement.lang") == "en"


def test_it_is_dark_when_asked(page: Page) -> None:
    shade = "return getComputedStyle(document.querySelector('.stage')).backgroundColor"
    before = page.run(shade)
    page.find(".page-lamp").click()
    assert page.run(shade) != before
    page.open()
    assert page.run(shade) != before, "it is remembered"
    page.find(".page-lamp").click()
    assert page.run(shade) == before
