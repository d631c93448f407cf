"""From what is typed to pictures and places: folders, patterns, names that never collide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from birefnet.cli.options import flag_of
from birefnet.cli.remove.jobs import InputError, Job, requested_format, result_format
from birefnet.cli.remove.options import RunOptions
from birefnet.cli.remove.plan import OF_TABLES, make_plan
from birefnet.cli.remove.search import Search
from birefnet.options import OPTIONS, Options
from fakes import write_disc


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures (empty files do), and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.jpg",
        "a.png",
        "b.JPG",
        "notes.txt",
        ".hidden.png",
        "deep/a.jpg",
        "deep/er/c.webp",
        ".cache/d.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def sources(*inputs: str, **options: Any) -> list[str]:
    search = Search(inputs, **options)
    jobs = list(search)
    assert search.count() == len(jobs)
    return [job.source.as_posix() if job.source else "-" for job in jobs]


def targets(
    inputs: list[str], output: str | None, *, kind: str = "cutout", format: str | None = None
) -> dict[str, str]:
    search = Search(tuple(inputs), output, kind, format)
    search.check()
    return {
        str(job.source and job.source.as_posix()): str(job.target and job.target.as_posix())
        for job in search
    }


def test_folders_are_searched_in_order(folder: Path) -> None:
    assert sources(".") == ["a.jpg", "a.png", "b.JPG", "deep/a.jpg", "deep/er/c.webp"]
    assert sources(".", recursive=False) == ["a.jpg", "a.png", "b.JPG"]


def test_patterns(folder: Path) -> None:
    assert sources("*.jpg") == ["a.jpg"]
    assert sources("**/*.jpg") == ["a.jpg", "deep/a.jpg"]
    assert sources("*") == ["a.jpg", "a.png", "b.JPG"]


def test_each_picture_once(folder: Path) -> None:
    assert sources("a.jpg", "./a.jpg", "a.*", "deep/../a.jpg") == ["a.jpg", "a.png"]


def test_a_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert sources("notes.txt", "-") == ["notes.txt", "-"]
    (folder / "odd[1].png").touch()
    assert sources("odd[1].png") == ["odd[1].png"]  # a name that looks like a pattern


@pytest.mark.parametrize(
    ("text", "message"), [("nothing.jpg", "no file or folder"), ("*.bmp", "no picture matches")]
)
def test_typing_errors_are_found_at_once(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Search((text,)).check()


def test_results_of_earlier_runs_are_no_inputs(folder: Path) -> None:
    for name in ("a.cutout.png", "a.mask.webp", "a.jpg.cutout.png", "lone.mask.png"):
        (folder / name).touch()
    assert sources(".", recursive=False) == ["a.jpg", "a.png", "b.JPG", "lone.mask.png"]
    assert sources("*.png") == ["a.png", "lone.mask.png"]
    assert sources("a.cutout.png") == ["a.cutout.png"]  # named, so meant


def test_the_output_folder_is_no_input(folder: Path) -> None:
    assert "deep/a.jpg" not in sources(".", output="deep")
    assert "a.jpg" in sources(".", output=".")


def test_links_to_folders_make_no_circles(folder: Path) -> None:
    (folder / "deep" / "round").symlink_to(folder)
    assert sources("deep") == ["deep/a.jpg", "deep/er/c.webp"]


def test_beside_the_source(folder: Path) -> None:
    assert targets(["b.JPG"], None) == {"b.JPG": "b.cutout.png"}
    assert targets(["deep"], None, kind="mask", format="webp") == {
        "deep/a.jpg": "deep/a.mask.webp",
        "deep/er/c.webp": "deep/er/c.mask.webp",
    }


def test_into_a_folder_with_its_structure(folder: Path) -> None:
    assert targets(["deep"], "out") == {
        "deep/a.jpg": "out/a.png",
        "deep/er/c.webp": "out/er/c.png",
    }
    assert targets(["b.JPG"], "out/", format="jpeg") == {"b.JPG": "out/b.jpg"}
    (folder / "there.png").mkdir()
    assert targets(["b.JPG"], "there.png") == {"b.JPG": "there.png/b.png"}


def test_names_stay_plain_where_nothing_is_searched(folder: Path) -> None:
    """Beside the folders that were given, and above a single file."""
    (folder / "other").mkdir()
    (folder / "other" / "z.png").touch()
    made = targets(["deep", "other"], ".", format="webp")
    assert made["other/z.png"] == "z.webp"
    assert targets(["b.JPG"], ".") == {"b.JPG": "b.png"}
    assert targets(["b.JPG", "deep/a.jpg"], "new") == {
        "b.JPG": "new/b.png",
        "deep/a.jpg": "new/a.png",
    }


def test_into_a_file(folder: Path) -> None:
    assert targets(["a.jpg"], "new/result.webp") == {"a.jpg": "new/result.webp"}


def test_names_never_collide(folder: Path) -> None:
    assert targets(["a.jpg", "a.png", "b.JPG"], "out") == {
        "a.jpg": "out/a.jpg.png",
        "a.png": "out/a.png.png",
        "b.JPG": "out/b.png",
    }
    assert targets(["a.jpg", "a.png"], None) == {
        "a.jpg": "a.jpg.cutout.png",
        "a.png": "a.png.cutout.png",
    }
    assert targets(["a.jpg", "deep/a.jpg"], "out") == {
        "a.jpg": "out/a.jpg.png",
        "deep/a.jpg": "out/a.jpg.cutout.png",
    }


def test_names_do_not_collide_by_case(folder: Path) -> None:
    (folder / "B.png").touch()
    made = targets(["b.JPG", "B.png"], "out")
    assert len({target.lower() for target in made.values()}) == 2


def test_many_of_one_name_are_numbered(folder: Path) -> None:
    names = []
    for index in range(5):
        path = folder / str(index) / "same.jpg"
        path.parent.mkdir()
        path.touch()
        names.append(f"{index}/same.jpg")
    assert len(set(targets(names, "out").values())) == 5


def test_an_input_is_never_an_output(folder: Path) -> None:
    assert targets(["a.png"], ".") == {"a.png": "a.png.png"}
    with pytest.raises(InputError, match="is the input"):
        targets(["a.png"], "./a.png")
    (folder / "link.png").symlink_to("a.png")
    with pytest.raises(InputError, match="is the input"):
        targets(["a.png"], "link.png")


def test_one_output_for_many_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="is a file; several results need a folder"):
        targets(["a.jpg", "a.png"], "notes.txt")
    with pytest.raises(InputError, match="holds one picture, got 2"):
        targets(["a.jpg", "a.png"], "-")
    with pytest.raises(InputError, match="holds one picture, got 2"):
        targets(["-", "a.png"], None)


def test_streams(folder: Path) -> None:
    assert targets(["-"], None) == {"None": "None"}
    assert targets(["-"], "out.png") == {"None": "out.png"}
    assert targets(["-"], "out/") == {"None": "out/stdin.png"}
    assert targets(["a.jpg"], "-") == {"a.jpg": "None"}


@pytest.mark.parametrize(
    ("animation", "asked", "result"),
    [
        (None, None, "png"),
        (None, "jpeg", "jpeg"),
        ("gif", None, "gif"),
        ("apng", None, "apng"),
        ("gif", "png", "apng"),
        ("gif", "webp", "webp"),
        ("gif", "jpeg", "jpeg"),  # refused when it is written
    ],
)
def test_format_of_the_result(animation: str | None, asked: str | None, result: str) -> None:
    assert result_format(Job(None, None, Path("a.gif"), animation), asked) == result


def test_asked_format(folder: Path) -> None:
    assert requested_format(None, None, ["a.jpg"]) is None
    assert requested_format(None, "out.tif", ["a.jpg"]) == "tiff"
    assert requested_format("webp", "out", ["a.jpg"]) == "webp"
    assert requested_format("webp", "x.png/", ["a.jpg", "a.png"]) == "webp"  # a folder
    for format, output, message in (
        ("webp", "out.png", "differ"),
        ("bmp", None, "choose one of png"),
        (None, "out.heic", "cannot be written"),
    ):
        with pytest.raises(InputError, match=message):
            requested_format(format, output, ["a.jpg"])
    for inputs in (["a.jpg", "a.png"], ["."], ["*.jpg"]):
        with pytest.raises(InputError, match="is the name of one picture"):
            requested_format(None, "x.png", inputs)


# Tables of a cluster

NOT_OF_TABLES: tuple[dict[str, Any], ...] = (
    {"threshold": 0.5, "mask_blur": 2, "mask_offset": 1, "keep_profile": True, "passes": 2},
    {"boxes": ("0,0,9,9",), "matting": "guided", "band": 9},
    {"points": ("1,1",), "other_points": ("5,5",)},
    {"guide": "mask.png"},
    {"objects": True, "min_object": "1%"},
    {"crop": True, "crop_margin": "5%", "aspect": "4:5", "outline": 3, "outline_colour": "red"},
    {f"shadow_{name}": 0.9 for name in ("strength", "blur", "angle", "length")}
    | {"shadow": "ground"},
)


def test_a_table_refuses_every_option_that_it_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_disc(tmp_path / "mask.png")
    (tmp_path / "table.parquet").write_bytes(b"")
    tried = set(OF_TABLES)
    for values in NOT_OF_TABLES:
        run = RunOptions(engine="ray")
        with pytest.raises(InputError, match="for files, not for tables") as caught:
            make_plan(["table.parquet"], "out.parquet", Options(**values), run)
        assert all(flag_of(name) in str(caught.value) for name in values)
        tried |= set(values)
    assert tried == set(OPTIONS)
