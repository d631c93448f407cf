"""What the page does, without a browser: settings, pictures in and out, batches, videos, limits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("gradio")

from birefnet.errors import BiRefNetError
from birefnet.imaging.figure import Figure
from birefnet.imaging.values import parse_resolution
from birefnet.inference.predictor import Predictor
from birefnet.matte import Matte
from birefnet.options import OPTIONS
from birefnet.presets import PRESETS, options_of
from birefnet.serving.errors import ServingError
from birefnet.serving.page import report
from birefnet.serving.page.batch import Batch
from birefnet.serving.page.form import (
    KINDS,
    FormState,
    for_batch,
    form_of,
    parse_picked,
    saveable,
    verdict,
)
from birefnet.serving.page.picture import (
    LARGEST_BRUSH,
    PageController,
    examples,
    problem,
    read_guide,
)
from birefnet.serving.page.retouch import (
    merge_window,
    read_strokes,
    read_windows,
    retouch,
    window_boxes,
)
from birefnet.serving.page.store import File, GoneError, Store, Work
from birefnet.serving.page.video import VideoController
from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings
from fakes import PLAIN, BrightEngine, disc, write_disc
from watched_files import opened


class Setup:
    """A service with a folder for uploads, and what the page makes of them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.engine = BrightEngine()
        self.settings = ServerSettings(**settings)
        self.service = Service(self.settings, Predictor(self.engine, PLAIN, name="bright"))
        self.store = Store()
        self.page = PageController(self.service, self.store, lambda: folder)
        self.batch = Batch(self.service, self.store, lambda: folder)
        self.video = VideoController(self.service, self.store, lambda: folder)

    def uploaded_file(self, name: str = "disc.png", **size: int) -> str:
        return str(write_disc(self.folder / name, **size))

    async def uploaded(self, form: FormState | None = None, **event: Any) -> tuple[str | None, Any]:
        """Token and last message of an uploaded picture."""
        event = event or {"path": self.uploaded_file(), "name": "my disc.png"}
        answers = [a async for a in self.page.upload(None, event, None, form or FormState())]
        return answers[-1]

    def shown(self, message: dict[str, Any]) -> File:
        """The file that a message tells the browser to fetch."""
        file = self.store.file(message["url"].split("/")[1])
        assert file is not None
        return file


@pytest.fixture
def within(tmp_path: Path) -> Callable[..., Any]:
    """Run a coroutine of a `Setup`, and stop its service."""

    def run(work: Callable[[Setup], Awaitable[Any]], **settings: Any) -> Any:
        async def all_of_it() -> Any:
            setup = Setup(tmp_path, **settings)
            try:
                return await work(setup)
            finally:
                await setup.service.stop()

        return asyncio.run(all_of_it())

    return run


async def last(answers: AsyncIterator[Any]) -> Any:
    last = None
    async for answer in answers:
        last = answer
    return last


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", None),
        ("1024", 1024),
        ("1280x720", (1280, 720)),
        (" 640 × 480 ", (640, 480)),
        ("Native", "native"),
    ],
)
def test_resolutions_as_typed(text: str, meant: object) -> None:
    assert parse_resolution(text) == meant


@pytest.mark.parametrize("text", ["big", "0x10", "12x", "9999", "1x2x3", "-5"])
def test_resolutions_that_make_no_sense(text: str) -> None:
    with pytest.raises(BiRefNetError, match="WIDTHxHEIGHT"):
        parse_resolution(text, largest=8192)


def test_colours_as_pickers_give_them() -> None:
    assert parse_picked("#ff8000") == (255, 128, 0, 255)
    assert parse_picked("rgba(254.7, 128.2, 0, 1)") == (255, 128, 0, 255)
    assert parse_picked("rgb(1, 2, 3)") == (1, 2, 3, 255)
    for wrong in ("rgba(a, b, c, d)", "/etc/passwd", "", "rgba(1,2,3,4,5)"):
        with pytest.raises(BiRefNetError):
            parse_picked(wrong)


def test_the_form_becomes_options() -> None:
    form = FormState(kind="colour", colour="#00ff00", resolution="64x32", fine=True, hard_edge=0.5)
    network, finishing = form.network({}), form.finishing(None)
    assert (network.resolution, network.passes) == ((64, 32), 2)
    assert (finishing.background, finishing.threshold) == ((0, 255, 0, 255), 0.5)
    both = for_batch(network, finishing, "jpeg")
    assert (both.resolution, both.passes, both.format) == ((64, 32), 2, "jpeg")
    with pytest.raises(BiRefNetError, match="background picture"):
        FormState(kind="picture").finishing(None)
    with pytest.raises(BiRefNetError, match="give one of cutout"):
        FormState(kind="/etc/passwd").finishing(None)


def test_the_panel_has_every_option() -> None:
    state = FormState(
        kind="colour",
        refine=False,
        mask_offset=-2,
        mask_blur=2,
        hard_edge=0.5,
        resolution="64x32",
        fine=True,
        matting="guided",
        shadow="drop",
        crop=True,
        crop_margin=20,
        aspect="4:5",
        objects=True,
        band=9,
        shadow_strength=0.9,
        shadow_blur=2,
        shadow_angle=10,
        shadow_length=1,
        min_object=2,
        outline=3,
        outline_colour="#ff0000",
    )
    options = for_batch(state.network({}), state.finishing(None), "webp")
    same = {name for name in OPTIONS if getattr(options, name) == OPTIONS[name].default}
    # Guidance comes from the stage; the server batches, and the page saves in the usual way.
    guided, usual = {"boxes", "points", "other_points", "guide"}, {"batch_size", "quality"}
    assert same == guided | usual | {"keep_profile", "metadata"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_the_panel(name: str) -> None:
    form = form_of(PRESETS[name])
    assert form is not None
    page, meant = form.finishing(None), options_of(PRESETS[name]).prepared()
    for option in PRESETS[name].keys() - {"format"}:
        assert getattr(page, option) == getattr(meant, option), option


@pytest.mark.parametrize(
    "preset",
    [
        {"background": b"a picture"},
        {"background": "#ff000080"},
        {"crop": True, "crop_margin": 20},
        {"aspect": "7:5"},
        {"boxes": ["0,0,1,1"]},
    ],
)
def test_presets_beyond_the_panel_are_not_offered(preset: dict[str, Any]) -> None:
    assert form_of(preset) is None


def test_formats_fit_the_result() -> None:
    assert "jpeg" not in saveable(FormState().finishing(None))
    assert "jpeg" in saveable(FormState(kind="mask").finishing(None))
    assert "jpeg" in saveable(FormState(kind="colour").finishing(None))
    assert "jpeg" not in saveable(FormState(kind="colour", colour="#00ff0080").finishing(None))
    with pytest.raises(BiRefNetError, match="JPEG cannot hold"):
        for_batch(FormState().network({}), FormState().finishing(None), "jpeg")


def test_the_verdict_says_when_nothing_was_found() -> None:
    from birefnet.imaging.picture import Picture

    picture = Picture(disc())
    assert "No object found" in verdict(Matte(np.zeros((48, 64), np.float32), picture), "n", 1)
    assert "takes 100%" in verdict(Matte(np.ones((48, 64), np.float32), picture), "nano", 1.5)


# What comes from the browser ----------------------------------------------------------------------


def test_only_uploads_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    inside = write_disc(folder / "a" / "disc.png")
    outside = write_disc(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(outside)
    uploaded = Setup(folder).page.uploaded
    assert uploaded(str(inside)) == inside
    wrong: list[Any] = [
        str(outside),
        f"{folder}/../secret.png",
        str(folder / "link.png"),
        str(folder),
        "nul\0",
        None,
        7,
        ["x"],
    ]
    for path in wrong:
        with pytest.raises(BiRefNetError, match="did not arrive"):
            uploaded(path)


def test_marks_are_read_and_paths_are_not() -> None:
    painted = io.BytesIO()
    Image.new("L", (4, 4)).save(painted, "png")
    brush = "data:image/png;base64," + base64.b64encode(painted.getvalue()).decode()
    guide = read_guide({"boxes": ["0.1,0.1,0.5,0.5"], "points": None, "brush": brush})
    assert guide["boxes"] == ("0.1,0.1,0.5,0.5",)
    assert guide["guide"] == painted.getvalue()
    wrong: list[dict[str, Any]] = [
        {"boxes": "/etc/passwd"},
        {"points": [[1, 2]]},
        {"boxes": ["0,0,1,1"] * 1000},
        {"brush": "/etc/passwd"},
        {"brush": {"path": "/etc/passwd"}},
    ]
    for event in wrong:
        with pytest.raises(BiRefNetError):
            read_guide(event)
    with pytest.raises(BiRefNetError, match="larger than 4 MB"):
        read_guide({"brush": brush + " " * LARGEST_BRUSH})


def test_problems_are_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    assert problem(BiRefNetError("it is broken"))["text"] == "It is broken."
    message = problem(KeyError("inside"))["text"]
    assert "inside" not in message
    assert "log" in message
    assert "inside" in caplog.text
    assert problem(KeyError())["serial"] != problem(KeyError())["serial"]


# Pictures -----------------------------------------------------------------------------------------


def test_a_picture_gives_a_result(within: Any) -> None:
    async def work(setup: Setup) -> None:
        path = setup.uploaded_file()
        event = {"path": path, "name": "my disc.png"}
        answers = [a async for a in setup.page.upload(None, event, None, FormState())]
        kinds = [message["type"] for _, message in answers]
        assert kinds == ["picture", "busy", "result"]
        token, result = answers[-1]
        assert not Path(path).exists(), "uploads are not kept on the disk"
        assert setup.store.work(token).name == "my disc"
        assert (answers[0][1]["width"], answers[0][1]["height"]) == (64, 48)
        shown = pixels(setup.shown(result).data)
        assert shown.shape == (48, 64, 4)
        assert shown[24, 32, 3] == 255
        assert shown[0, 0, 3] == 0
        assert result["transparent"]
        assert not result["empty"]

    within(work)


def test_changes_run_the_network_only_when_they_must(within: Any) -> None:
    async def work(setup: Setup) -> None:
        token, _ = await setup.uploaded()
        assert len(setup.engine.batches) == 1
        cheap = [
            FormState(kind="blur"),
            FormState(mask_offset=2),
            FormState(crop=True),
            FormState(kind="mask"),
        ]
        for form in cheap:
            message = await last(setup.page.change(token, None, form))
            assert message["type"] == "result", message
        assert len(setup.engine.batches) == 1
        await last(setup.page.change(token, None, FormState(resolution="96x64")))
        assert setup.engine.batches[-1][2:] == (64, 96)
        guide = {"boxes": ["0.1,0.1,0.9,0.9"]}
        before = len(setup.engine.batches)
        assert (await last(setup.page.guide(token, guide, None, FormState())))["type"] == "result"
        assert len(setup.engine.batches) > before

    within(work)


def test_edges_and_crops_are_shown(within: Any) -> None:
    async def work(setup: Setup) -> None:
        token, plain = await setup.uploaded(FormState(kind="mask"))
        grown = await last(setup.page.change(token, None, FormState(kind="mask", mask_offset=4)))
        small, large = (pixels(setup.shown(m).data).astype(int) for m in (plain, grown))
        assert large.sum() > small.sum()
        crop = await last(setup.page.change(token, None, FormState(crop=True, crop_margin=0)))
        left, top, right, bottom = crop["frame"]
        assert 0.1 < left < 0.4 < 0.6 < right < 0.9
        assert 0.1 < top < 0.4 < 0.6 < bottom < 0.9
        assert pixels(setup.shown(crop).data).shape[:2] == (48, 64), "the whole is shown"
        saved = await last(
            setup.page.save(token, {"format": "png"}, None, FormState(crop=True, crop_margin=0))
        )
        assert pixels(setup.shown(saved).data).shape[1] == round((right - left) * 64)

    within(work)


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
def test_results_are_saved(within: Any, format: str) -> None:
    async def work(setup: Setup) -> None:
        token, _ = await setup.uploaded()
        message = await last(setup.page.save(token, {"format": format}, None, FormState()))
        assert message["name"].startswith("my disc.cutout.")
        file = setup.shown(message)
        assert file.media_type == f"image/{format}"
        assert pixels(file.data).shape == (48, 64, 4)

    within(work)


def test_objects_are_saved_one_by_one(within: Any) -> None:
    async def work(setup: Setup) -> None:
        two = np.concatenate([disc(), disc()], axis=1)
        Image.fromarray(two).save(setup.folder / "two.png")
        event = {"path": str(setup.folder / "two.png"), "name": "two.png"}
        form = FormState(objects=True)
        token, _ = await setup.uploaded(form, **event)
        message = await last(setup.page.save(token, {"format": "png"}, None, form))
        assert message["name"] == "two.objects.zip"
        with zipfile.ZipFile(io.BytesIO(setup.shown(message).data)) as archive:
            assert archive.namelist() == ["two.cutout.1.png", "two.cutout.2.png"]

    within(work)


def test_a_background_picture_is_used(within: Any) -> None:
    async def work(setup: Setup) -> None:
        token, _ = await setup.uploaded()
        blue = setup.folder / "blue.png"
        Image.new("RGB", (8, 8), (0, 0, 255)).save(blue)
        background = await setup.page.set_background(str(blue))
        assert not blue.exists()
        message = await last(setup.page.change(token, background, FormState(kind="picture")))
        assert pixels(setup.shown(message).data)[0, 0].tolist() == pytest.approx([0, 0, 255], abs=9)
        missing = await last(setup.page.change(token, None, FormState(kind="picture")))
        assert missing["type"] == "problem"
        broken = setup.folder / "broken.png"
        broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        with pytest.raises(BiRefNetError):
            await setup.page.set_background(str(broken))

    within(work)


def test_what_cannot_be_done_is_said(within: Any, tmp_path: Path) -> None:
    async def work(setup: Setup) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"\xff\xd8\xffnothing")
        wrong: list[dict[str, Any]] = [
            {"path": str(broken), "name": "broken.jpg"},
            {"path": "/etc/passwd"},
            {"example": "../../secret"},
            {"url": "http://127.0.0.1:1/x.png"},
            {"url": "file:///etc/passwd"},
            {},
        ]
        for event in wrong:
            token, message = (
                await setup.uploaded(**event) if event else await last_of_nothing(setup)
            )
            assert token is None
            assert message["type"] == "problem", event
            assert "Traceback" not in message["text"]
            assert message["text"].endswith(".")
        assert len(setup.store) == 0
        token, _ = await setup.uploaded()
        for form in (
            FormState(resolution="huge"),
            FormState(model="none-such"),
            FormState(shadow="odd"),
        ):
            message = await last(setup.page.change(token, None, form))
            assert message["type"] == "problem", form
        gone = await last(setup.page.change("no-such-token", None, FormState()))
        assert "no longer has" in gone["text"]
        assert await last(setup.page.change(None, None, FormState())) is None

    async def last_of_nothing(setup: Setup) -> Any:
        return await last(setup.page.upload(None, {}, None, FormState()))

    within(work)


def test_large_files_are_refused(within: Any) -> None:
    async def work(setup: Setup) -> None:
        _, message = await setup.uploaded()
        assert "larger than" in message["text"]

    within(work, max_bytes=100)


def test_no_object_is_said(within: Any) -> None:
    async def work(setup: Setup) -> None:
        path = setup.uploaded_file("dark.png", subject=20)
        _, message = await setup.uploaded(path=path, name="dark.png")
        assert message["empty"]
        assert "No object found" in message["verdict"]

    within(work)


def test_examples_are_there(within: Any) -> None:
    async def work(setup: Setup) -> None:
        for name in examples():
            _, message = await setup.uploaded(example=name)
            assert message["type"] == "result", name

    assert len(examples()) >= 4
    within(work)


# Retouching ---------------------------------------------------------------------------------------


def stroke(erase: bool, *points: tuple[float, float], **values: float) -> dict[str, Any]:
    return {"erase": erase, "size": 0.25, "softness": 0, "points": [list(at) for at in points]} | (
        values
    )


@pytest.mark.parametrize("erase", [True, False])
@pytest.mark.parametrize("softness", [0, 0.5, 1])
@pytest.mark.parametrize("at", [(0.5, 0.5), (0, 0), (1, 1), (0.25, 0.75)])
def test_a_stroke_changes_what_lies_under_it(
    erase: bool, softness: float, at: tuple[float, float]
) -> None:
    before = np.full((60, 80), 0.5, np.float32)
    (read,) = read_strokes([stroke(erase, at, softness=softness)])
    after = retouch(before, [read])
    assert (before == 0.5).all()
    rows, columns = np.mgrid[:60, :80]
    away = np.hypot(columns - (at[0] * 80 - 0.5), rows - (at[1] * 60 - 0.5))
    change = (after - 0.5) * (-2 if erase else 2)
    assert change[away < 1].min() > 0.8
    assert (change[away < 10 * (1 - softness) - 2] == 1).all()
    assert (change[away > 12] == 0).all()
    assert change.min() >= 0
    assert change.max() == 1


def test_the_latest_stroke_counts() -> None:
    line = ((0.1, 0.5), (0.9, 0.5))
    strokes = read_strokes([stroke(True, *line), stroke(False, *line, size=0.1)])
    after = retouch(np.ones((60, 80), np.float32), strokes)
    assert after[:, 40][[10, 22, 30, 38, 50]].tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        [1],
        [{}],
        [stroke(True)],
        [stroke(True, (2, 0))],
        [stroke(True, (0, float("nan")))],
        [stroke(True, (0, 0), size=-1)],
        [stroke(True, (0, 0))] * 501,
        [stroke(True, *[(0, 0)] * 50_001)],
    ],
)
def test_strokes_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(BiRefNetError, match="stroke"):
        read_strokes(wrong)


def test_strokes_are_shown_and_saved_without_the_network(within: Any) -> None:
    async def work(setup: Setup) -> None:
        token, _ = await setup.uploaded()
        form = FormState(crop=True, crop_margin=0)
        whole = await last(setup.page.change(token, None, form))
        event = {"retouch": [stroke(True, (0.5, 0.0), (0.5, 1.0), size=0.1)]}
        cut = await last(setup.page.guide(token, event, None, form))
        assert pixels(setup.shown(whole).data)[24, 32, 3] == 255
        assert pixels(setup.shown(cut).data)[24, 32, 3] == 0
        event["retouch"].append(stroke(False, (0.02, 0.02), size=0.02))
        grown = await last(setup.page.guide(token, event, None, form))
        assert grown["frame"][0] < whole["frame"][0], "the crop follows"
        saved = await last(setup.page.save(token, {"format": "png"}, None, FormState()))
        assert pixels(setup.shown(saved).data)[24, 32, 3] == 0
        assert len(setup.engine.batches) == 1
        undone = await last(setup.page.guide(token, {}, None, form))
        assert undone["frame"] == whole["frame"]

    within(work)


@pytest.mark.parametrize("sides", [(0, 0, 1, 1), (0.25, 0.25, 0.75, 0.75), (0.5, 0, 1, 0.6)])
def test_a_window_is_merged_softly(sides: tuple[float, float, float, float]) -> None:
    (window,) = read_windows([list(sides)])
    box, seen = window_boxes(window, 60, 80)
    before = np.zeros((60, 80), np.float32)
    after = merge_window(before, np.ones((seen.height, seen.width), np.float32), box, seen)
    assert (before == 0).all()
    outside = np.ones_like(before, bool)
    outside[box.slices] = False
    assert (after[outside] == 0).all()
    middle = (box.top + box.height // 2, box.left + box.width // 2)
    assert after[middle] == 1
    if box.left > 0:
        assert 0 < after[middle[0], box.left] < 0.5
    if box.right == 80:
        assert after[middle[0], 79] == 1


@pytest.mark.parametrize(
    "wrong", [[1], [[0, 0, 1]], [[0.5, 0, 0.5, 1]], [[0, 0, 2, 1]], [[0, 0, 1, 1]] * 33]
)
def test_windows_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(BiRefNetError, match="window"):
        read_windows(wrong)


def test_a_window_is_refined_from_close_up(within: Any) -> None:
    async def work(setup: Setup) -> None:
        path = setup.uploaded_file(height=480, width=640)
        token, _ = await setup.uploaded(path=path, name="large.png")
        before = setup.store.work(token).matte
        assert before is not None
        count = len(setup.engine.batches)
        windows = [[0.2, 0.1, 0.5, 0.5]]
        first = await last(setup.page.guide(token, {"windows": windows}, None, FormState()))
        assert first["type"] == "result", first
        assert len(setup.engine.batches) > count
        kept = setup.store.work(token).refined
        assert kept is not None
        changed = kept[1].alpha != before[1].alpha
        rows, columns = np.nonzero(changed)
        assert changed.any()
        assert 48 <= rows.min() <= rows.max() < 240
        assert 128 <= columns.min() <= columns.max() < 320
        truth = disc(480, 640)[..., 0] > 128
        part = np.s_[70:220, 150:300]
        error = [np.abs(alpha - truth)[part].mean() for alpha in (before[1].alpha, kept[1].alpha)]
        assert error[1] < error[0] / 2
        count = len(setup.engine.batches)
        event = {"windows": windows, "retouch": [stroke(True, (0.5, 0.5))]}
        await last(setup.page.guide(token, event, None, FormState()))
        assert len(setup.engine.batches) == count, "a stroke does not redo the window"
        await last(setup.page.guide(token, {}, None, FormState()))
        finished = setup.store.work(token).finished
        assert finished is not None
        assert (finished[1].alpha == before[1].alpha).all(), "undone"

    within(work)


# Many pictures ------------------------------------------------------------------------------------


def test_a_batch_of_files_and_zips(within: Any) -> None:
    async def work(setup: Setup) -> None:
        inner = setup.folder / "more.zip"
        data = Path(setup.uploaded_file("x.png")).read_bytes()
        with zipfile.ZipFile(inner, "w") as made:
            made.writestr("holiday/disc.png", data)
            made.writestr("holiday/broken.jpg", b"\xff\xd8\xffnothing")
            made.writestr("notes.txt", "nothing to see")
        dark = setup.uploaded_file("dark.png", subject=20)
        paths = [setup.uploaded_file(), dark, str(inner)]
        reports = [text async for text in setup.batch.run(paths, "webp", None, FormState())]
        assert "<progress" in reports[0]
        end = reports[-1]
        assert "3 of 4 pictures done" in end
        assert "holiday/broken.jpg" in end
        assert "No object found in 1;" in end
        listed = [end.index(name) for name in ("<b>dark.png", "<b>disc.png")]
        assert listed == sorted(listed), "the doubtful first"
        assert end.count("<img") == 3
        assert not any(Path(path).exists() for path in paths)
        token = end.split('href="page/')[1].split("/")[0]
        file = setup.store.file(token)
        assert file is not None
        assert file.path is not None
        with zipfile.ZipFile(file.path) as archive:
            assert archive.namelist() == ["disc.webp", "dark.webp", "holiday/disc.webp"]
            assert pixels(archive.read("disc.webp")).shape == (48, 64, 4)
        setup.store.drop(token)
        assert not file.path.exists()

    within(work)


@pytest.mark.parametrize("kind", KINDS.values())
def test_thumbnails_of_the_least_certain(
    within: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("birefnet.serving.page.batch.MOST_SHOWN", 3)
    levels = {f"{level}.png": level for level in (250, 150, 20, 200, 170)}

    async def work(setup: Setup) -> None:
        form, background = FormState(kind=kind), None
        if kind == "picture":
            background = await setup.page.set_background(setup.uploaded_file("behind.png"))
        paths = [setup.uploaded_file(name, subject=level) for name, level in levels.items()]
        end = await last(setup.batch.run(paths, "png", background, form))
        assert re.findall("<b>(.*?)</b>", end) == ["20.png", "150.png", "170.png"]
        assert "5 of 5 pictures done" in end
        assert "The least certain results:" in end

    within(work)


def test_a_batch_keeps_files_of_equal_names_and_objects_apart(within: Any) -> None:
    async def work(setup: Setup) -> None:
        paths = [setup.uploaded_file(f"{folder}/disc.png") for folder in "ab"]
        end = await last(setup.batch.run(paths, "png", None, FormState(objects=True)))
        file = setup.store.file(end.split('href="page/')[1].split("/")[0])
        assert file is not None
        assert file.path is not None
        with zipfile.ZipFile(file.path) as archive:
            assert archive.namelist() == ["disc.1.png", "disc.2.1.png"]

    within(work)


def test_batches_that_cannot_be(within: Any) -> None:
    async def work(setup: Setup) -> None:
        assert "choose pictures" in await last(setup.batch.run([], "png", None, FormState()))
        outside = await last(setup.batch.run(["/etc/passwd"], "png", None, FormState()))
        assert "did not arrive" in outside
        jpeg = await last(setup.batch.run([setup.uploaded_file()], "jpeg", None, FormState()))
        assert "JPEG cannot hold" in jpeg
        broken = setup.folder / "broken.zip"
        broken.write_bytes(b"PK nothing")
        assert "not a zip" in await last(setup.batch.run([str(broken)], "png", None, FormState()))

    within(work)


def test_a_batch_that_is_stopped_leaves_nothing(within: Any) -> None:
    async def work(setup: Setup) -> None:
        path = setup.uploaded_file()
        running = setup.batch.run([path], "png", None, FormState())
        await running.__anext__()
        await running.aclose()  # type: ignore[attr-defined]
        assert not Path(path).exists()
        assert not list(setup.store.new_path("").parent.iterdir())

    within(work)


# Videos -------------------------------------------------------------------------------------------


def test_a_video_is_cut_out(within: Any) -> None:
    clips = pytest.importorskip("video.clips")

    async def work(setup: Setup) -> None:
        path = clips.write_clip(setup.folder / "clip.mp4", frames=4)
        rest = ("#00ff00", "webm", "low", False, None, "")
        end = await last(setup.video.run(str(path), "cutout", *rest))
        assert "4 frames" in end
        assert "<video" in end
        file = setup.store.file(end.split('href="page/')[1].split("/")[0])
        assert file is not None
        assert file.on_disk > 100
        assert not path.exists()

    within(work)


def test_videos_that_cannot_be(within: Any) -> None:
    pytest.importorskip("av")

    async def work(setup: Setup) -> None:
        rest = ("#00ff00", "mp4", "low", False, None, "")
        assert "choose a video" in await last(setup.video.run(None, "cutout", *rest))
        text = setup.folder / "film.mp4"
        text.write_text("#EXTM3U\nhttp://127.0.0.1/secret")
        assert "MP4 cannot be" in await last(setup.video.run(str(text), "cutout", *rest))
        text.write_text("#EXTM3U\nhttp://127.0.0.1/secret")
        assert "not a video" in await last(setup.video.run(str(text), "blur", *rest))
        assert not text.exists()

    within(work)


# What is kept -------------------------------------------------------------------------------------


def test_the_store_keeps_what_was_used_last(tmp_path: Path) -> None:
    store = Store(memory=250)
    first, second = (store.put(File(n, "text/plain", b"x" * 100)) for n in "ab")
    assert store.file(first) is not None
    third = store.put(File("c", "text/plain", b"x" * 100))
    assert store.file(second) is None, "the one that nobody asked for"
    assert store.file(first)
    assert store.file(third)
    large = store.put(File("d", "text/plain", b"x" * 1000))
    assert store.file(large), "the newest stays"
    assert len(store) == 1


def test_the_store_forgets_in_time_and_deletes_files() -> None:
    store = Store(seconds=-1)
    path = store.new_path(".zip")
    path.write_bytes(b"zip")
    old = store.put(File("a.zip", "application/zip", path=path))
    store.put(Work("b", b""))
    assert len(store) == 0, "the last one, too"
    assert store.file(old) is None
    assert not path.exists()
    with pytest.raises(GoneError):
        store.work("guessed")


def test_reports_escape_what_they_say() -> None:
    evil = '<img src=x onerror="alert(1)">'
    message = report.done(evil, report.listed(evil, [evil]), report.link(evil, evil, evil))
    assert "<img" not in message + report.problem(evil) + report.bar(0.5, evil)
    assert '"alert' not in message
    shown = report.thumbnails(evil, [Figure(evil, evil, 1, 1, evil)])
    assert shown.count("<img") == 1
    assert '"alert' not in shown
    many = report.listed("Failed:", ["x"] * 1010)
    assert many.count("<li>") == 1001


def test_no_text_that_a_visitor_sends_names_a_file(within: Any, tmp_path: Path) -> None:
    secret = str(write_disc(tmp_path.parent / f"{tmp_path.name}-secret.png"))
    texts = [field.name for field in fields(FormState) if "str" in str(field.type)]
    assert len(texts) > 5

    async def work(setup: Setup) -> None:
        for name in texts:
            with contextlib.suppress(BiRefNetError, ValueError):
                await setup.uploaded(replace(FormState(crop=True), **{name: secret}))
        for event in ({"path": secret}, {"example": secret}, {"url": secret}):
            await setup.uploaded(**event)
        with pytest.raises(BiRefNetError):
            await setup.page.set_background(secret)
        for name in ("boxes", "points", "other_points", "brush", "format"):
            with contextlib.suppress(BiRefNetError, ServingError):
                read_guide({name: secret})
                read_guide({name: [secret]})
        await last(setup.batch.run([secret], "png", None, FormState()))

    with opened() as names:
        within(work)
    assert not [name for name in names if "secret" in name]
