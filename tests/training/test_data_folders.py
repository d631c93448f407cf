"""What a path to training data is taken for, and what is said where it does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet.errors import ImageError
from birefnet.training.data.folders import DataError, find_set
from birefnet.training.data.labels import Classes
from birefnet.training.data.opening import open_source
from birefnet.training.data.sources import (
    parse_source,
    read_mask,
    read_pair,
    shrink,
)
from data_sets import cutout, make_cutouts, make_pairs, photo, save


@pytest.mark.parametrize(
    ("images", "truths"),
    [
        ("im", "gt"),
        ("imgs", "masks"),
        ("Images", "GT"),
        ("image", "Alpha"),
        ("DUTS-TR-Image", "DUTS-TR-Mask"),
        ("blurred_image", "mask"),
        ("JPEGImages", "annotations"),
    ],
)
def test_usual_names_of_folders(tmp_path: Path, images: str, truths: str) -> None:
    make_pairs(tmp_path, 2, images=images, truths=truths)
    found = find_set(str(tmp_path))
    assert found.kind == "pairs"
    assert [entry.name for entry in found.entries] == ["p0", "p1"]
    assert all(e.mask and e.mask.parent != e.image.parent for e in found.entries)


def test_the_folder_of_images_finds_its_sibling(tmp_path: Path) -> None:
    make_pairs(tmp_path / "im" / "set", 2)  # a folder named im above must not matter
    found = find_set(str(tmp_path / "im" / "set" / "im"))
    assert [e.mask.name for e in found.entries if e.mask] == ["p0.png", "p1.png"]
    assert {e.mask.parent for e in found.entries if e.mask} == {tmp_path / "im" / "set" / "gt"}


def test_two_folders_of_any_name(tmp_path: Path) -> None:
    make_pairs(tmp_path, 2, images="a", truths="b")
    assert len(find_set(f"{tmp_path / 'a'}::{tmp_path / 'b'}").entries) == 2


def test_suffixes_case_endings_and_subfolders_do_not_matter(tmp_path: Path) -> None:
    rgb, truth = photo(0)
    names = [("A.JPG", "a.PNG"), ("b.webp", "b_mask.tif"), ("sub/c.jpeg", "sub/c.bmp"),
             ("d.tiff", "deep/d.png")]  # fmt: skip
    for image, mask in names:
        save(tmp_path / "im" / image, rgb)
        save(tmp_path / "gt" / mask, truth)
    save(tmp_path / "im" / ".hidden.png", rgb)
    found = find_set(str(tmp_path))
    found.require_complete()
    assert {(e.name, e.mask.name) for e in found.entries if e.mask} == {
        ("A", "a.PNG"), ("b", "b_mask.tif"), ("sub/c", "c.bmp"), ("d", "d.png"),
    }  # fmt: skip


def test_same_stems_in_subfolders_are_told_apart(tmp_path: Path) -> None:
    for scene in ("one", "two"):
        make_pairs(tmp_path, 1, images=f"im/{scene}", truths=f"gt/{scene}")
    for entry in find_set(str(tmp_path)).entries:
        assert entry.mask is not None
        assert entry.mask.parent.name == entry.image.parent.name
    (tmp_path / "gt/one/p0.png").unlink()
    (tmp_path / "im/two/p0.png").unlink()
    (tmp_path / "gt/two/p0.png").rename(tmp_path / "gt/two/other.png")
    with pytest.raises(DataError, match="without a mask"):
        find_set(str(tmp_path)).require_complete()


def test_picture_and_mask_side_by_side(tmp_path: Path) -> None:
    rgb, truth = photo(0)
    save(tmp_path / "a.jpg", rgb)
    save(tmp_path / "a.png", truth)
    save(tmp_path / "b.png", rgb)
    save(tmp_path / "b_mask.png", truth)
    found = find_set(str(tmp_path))
    assert [(e.image.name, e.mask.name) for e in found.entries if e.mask] == [
        ("a.jpg", "a.png"), ("b.png", "b_mask.png"),
    ]  # fmt: skip


def test_cutouts_and_plain_pictures_are_told_apart(tmp_path: Path) -> None:
    assert find_set(str(make_cutouts(tmp_path / "cutouts", 3))).kind == "cutouts"
    save(tmp_path / "plain" / "a.png", photo(0)[0])
    assert find_set(str(tmp_path / "plain")).kind == "pictures"


def test_missing_masks_name_the_first_and_count_the_rest(tmp_path: Path) -> None:
    make_pairs(tmp_path, 5)
    for i in (1, 3):
        (tmp_path / "gt" / f"p{i}.png").unlink()
    with pytest.raises(DataError, match=r"2 of 5 pictures .* first is .*p1\.png; add p1\.png to"):
        open_source(str(tmp_path))


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    make_pairs(tmp_path, 1)
    save(tmp_path / "im" / "p0.jpg", photo(0)[0])
    with pytest.raises(DataError, match="same name"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "there is no folder"),
        (lambda root: save(root / "a.png", photo(0)[0]), "is a file; give the folder"),
        (lambda root: (root / "gt").mkdir() or root, r"holds no pictures \(it has gt\)"),
        (lambda root: make_pairs(root / "DIS-TR", 1).parent, "holds the sets DIS-TR"),
        (lambda root: make_pairs(make_pairs(root, 1), 1, truths="alpha"), "several folders of"),
    ],
)
def test_what_cannot_be_used_says_what_to_do(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message):
        open_source(str(path))


def test_weights() -> None:
    assert parse_source("a/b").times == 1
    assert parse_source("a/b=2.5").times == 2.5
    assert parse_source("a=b=.5").uri == "a=b"
    shared = parse_source("hf:x:train?image=a&mask=b=20%")
    assert (shared.uri, shared.share) == ("hf:x:train?image=a&mask=b", 0.2)
    for text in ("a=0", "a=100%"):
        with pytest.raises(DataError, match="weight"):
            parse_source(text)


def test_an_existing_name_with_an_equals_sign_is_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(tmp_path / "set=2", 1)
    monkeypatch.chdir(tmp_path)
    assert parse_source("set=2").uri == "set=2"


def test_the_alpha_of_a_mask_is_the_mask(tmp_path: Path) -> None:
    white = np.full((50, 40, 4), 255, np.uint8)
    white[..., 3] = cutout(0)[..., 3]
    path = save(tmp_path / "m.png", white)
    np.testing.assert_array_equal(read_mask(path), white[..., 3])
    np.testing.assert_array_equal(read_mask(save(tmp_path / "c.png", cutout(0))), cutout(0)[..., 3])


def test_masks_that_would_be_misread_are_refused(tmp_path: Path) -> None:
    rgb, truth = photo(0)
    with pytest.raises(ImageError, match="colour picture"):
        read_mask(save(tmp_path / "rgb.png", rgb))
    with pytest.raises(ImageError, match="levels 0 and 1"):
        read_mask(save(tmp_path / "01.png", (truth > 127).astype(np.uint8)))


def test_exif_turns_picture_as_in_inference(tmp_path: Path) -> None:
    from PIL import Image

    rgb, truth = photo(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = save(tmp_path / "a.jpg", rgb, exif=exif, quality=95)
    upright = np.ascontiguousarray(np.rot90(truth, -1))
    pixels = read_pair(image, save(tmp_path / "up.png", upright))
    assert pixels.shape == (90, 60, 4)
    bright = pixels[..., :3].min(axis=2) > 150
    assert (bright == (pixels[..., 3] > 127)).mean() > 0.97
    with pytest.raises(ImageError, match="EXIF rotation"):
        read_pair(image, save(tmp_path / "raw.png", truth))


def test_a_mask_of_another_scale_fits_and_of_another_shape_does_not(tmp_path: Path) -> None:
    rgb, truth = photo(0)
    image = save(tmp_path / "a.png", rgb)
    half = np.ascontiguousarray(truth[::2, ::2])
    assert read_pair(image, save(tmp_path / "half.png", half)).shape == (60, 90, 4)
    with pytest.raises(ImageError, match=r"90 x 60 .* its mask 45 x 60"):
        read_pair(image, save(tmp_path / "narrow.png", np.ascontiguousarray(truth[:, ::2])))


def test_a_cutout_without_alpha_is_named(tmp_path: Path) -> None:
    make_cutouts(tmp_path, 9)
    save(tmp_path / "c3.png", photo(0)[0])
    source = open_source(str(tmp_path))
    with pytest.raises(ImageError, match=r"c3\.png has no transparent pixel"):
        source.read(3)


def test_shrinking_a_cutout_keeps_hidden_colours_out() -> None:
    small = shrink(cutout(0), 16, is_cutout=True)
    assert max(small.shape[:2]) == 16
    edge = (small[..., 3] > 20) & (small[..., 3] < 235)
    assert edge.any()
    # Transparent pixels of the original are pure green, the ellipse has little of it.
    assert small[edge][:, 1].max() < 90
    assert shrink(cutout(0), 0) is not None


def test_classes_of_dis5k_names(tmp_path: Path) -> None:
    names = ["2#Animal#1#Cat#x1", "1#Accessories#1#Bag#y", "1#Accessories#2#Clip#z", "own"]
    classes = Classes("dis5k", names)
    assert classes.names == ("Bag", "Cat", "Clip")
    assert [classes.label(name) for name in names] == [1, 0, 2, -1]
    file = tmp_path / "classes.txt"
    file.write_text("Clip\nCat\n")
    assert [Classes(str(file), []).label(name) for name in names] == [1, -1, 0, -1]
    assert len(Classes("none", names)) == 0
    with pytest.raises(DataError, match="no file name is like"):
        Classes("dis5k", ["own"])
    with pytest.raises(DataError, match="cannot be read"):
        Classes(str(tmp_path / "nothing.txt"), names)
