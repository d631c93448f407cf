"""Sources that are generated: thin structures, views of panoramas, scenes without their subject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.folders import DataError
from birefnet.training.data.opening import PREFIXES, open_source
from birefnet.training.data.scenery import VIEWS, panorama_view, plain, without_subject
from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings
from birefnet.training.data.thin_structures import _KINDS, thin_structure
from data_sets import make_backgrounds, make_cutouts, make_pairs, photo, save


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_pairs(root / "photos", 3)
    make_cutouts(root / "cutouts", 3)
    make_backgrounds(root / "scenes", 3)
    save(root / "panoramas" / "town.png", photo(1, 64, 128)[0])
    return root


def names(root: Path) -> dict[str, str]:
    """One of each kind of source, by its prefix."""
    return {
        "thin:": "thin:4",
        "panorama:": f"panorama:{root / 'panoramas'}",
        "subjects-removed:": f"subjects-removed:{root / 'photos'}",
    }


def test_every_generated_source_gives_the_same_pictures_each_time(root: Path) -> None:
    assert set(names(root)) | {"hf:", "wds:"} == set(PREFIXES)
    for name in names(root).values():
        source, again = open_source(name), open_source(name)
        pixels = [source.read(index) for index in range(len(source))]
        for index, picture in enumerate(pixels):
            assert picture.dtype == np.uint8
            assert picture.shape[2] == (4 if source.kind == "cutouts" else 3)
            np.testing.assert_array_equal(picture, again.read(index))
        assert len({picture.tobytes() for picture in pixels}) == len(pixels)
        assert len({source.name_of(index) for index in range(len(source))}) == len(source)
    assert len(open_source(names(root)["panorama:"])) == VIEWS


@pytest.mark.parametrize("name", ["thin:", "thin:0", "thin:many", "thin:-3"])
def test_a_count_of_thin_structures_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(DataError, match="give how many thin structures, as in thin:500"):
        open_source(name)


def test_only_pictures_with_masks_have_subjects_to_remove(root: Path) -> None:
    with pytest.raises(DataError, match="has no masks"):
        open_source(f"subjects-removed:{root / 'scenes'}")


@pytest.mark.parametrize("kind", range(len(_KINDS)))
def test_thin_structures_are_thin_and_soft(kind: int) -> None:
    canvas = np.zeros((192, 192), np.uint8)
    _KINDS[kind](canvas, 192, np.random.default_rng(kind))
    assert 0.002 < (canvas > 0).mean() < 0.7
    alpha = thin_structure(64, np.random.default_rng(kind))
    assert alpha.shape == (64, 64)
    assert ((alpha > 0.1) & (alpha < 0.9)).any()


def test_a_view_of_a_panorama_wraps_around(root: Path) -> None:
    panorama = np.full((64, 128, 3), 90, np.uint8)
    for seed in range(8):
        assert (panorama_view(panorama, 24, np.random.default_rng(seed)) == 90).all()


def test_a_scene_has_lost_its_subject() -> None:
    pixels = np.zeros((40, 100, 4), np.uint8)
    pixels[..., :3] = np.arange(100)[None, :, None]
    pixels[5:35, 40:60] = 255
    scene = without_subject(pixels)
    assert scene is not None
    assert scene.max() < 100
    pixels[:, 5:95, 3] = 255
    assert without_subject(pixels) is None


def test_a_picture_that_is_all_subject_gives_a_plain_ground(tmp_path: Path) -> None:
    save(tmp_path / "im" / "a.png", np.full((40, 60, 3), 200, np.uint8))
    save(tmp_path / "gt" / "a.png", np.full((40, 60), 255, np.uint8))
    scene = open_source(f"subjects-removed:{tmp_path}").read(0)
    assert 150 < scene.mean() < 250


def test_plain_grounds_are_about_the_asked_colour() -> None:
    near = np.array([0.2, 0.5, 0.8])
    for seed in range(12):
        ground = plain(32, np.random.default_rng(seed), near)
        assert ground.shape == (32, 32, 3)
        assert 0 <= ground.min() <= ground.max() <= 1
        assert np.abs(ground.mean(axis=(0, 1)) - near).max() < 0.35


def test_they_train_like_any_other_source(root: Path) -> None:
    sources = (str(root / "photos"), f"{names(root)['thin:']}=40%")
    backgrounds = tuple(n for p, n in names(root).items() if p != "thin:")
    settings = DataSettings(sources, backgrounds, width=64, height=64, epoch_length=20)
    data, again = (build_dataset(settings, seed=3) for _ in range(2))
    samples = [data[number] for number in range(20)]
    assert sum(sample.name.startswith("thin") for sample in samples) == 8
    assert all((sample.image == again[sample.number].image).all() for sample in samples)
    assert all(sample.mask.max() > 60 for sample in samples if sample.name.startswith("thin"))


def test_distractors_are_in_the_picture_and_not_in_the_mask(root: Path) -> None:
    composite = CompositeSettings(
        objects=1, distractors=0, shadow=0, match=0, plain=0, same_colour=0, blur_background=0,
        soften=0, empty=0,
    )  # fmt: skip
    settings = DataSettings(
        (str(root / "cutouts"),), (str(root / "scenes"),), width=96, height=96,
        augment=AugmentSettings(flip=0), composite=composite,
    )  # fmt: skip

    def colourful(changes: dict[str, float]) -> tuple[list[int], list[int]]:
        """Pixels of neither background nor mask, those of the border alone beside."""
        data = build_dataset(replace(settings, composite=replace(composite, **changes)), seed=1)
        counts, at_border = [], []
        for number in range(24):
            sample = data[number]
            rgb = sample.image.numpy().astype(int)
            other = (rgb[0] > rgb[2]) & (sample.mask[0].numpy() < 10)  # the scenes are blue
            inner = other.copy()
            inner[2:-2, 2:-2] = False
            counts.append(int(other.sum()))
            at_border.append(int(inner.sum()))
        return counts, at_border

    none, _ = colourful({})
    one, _ = colourful({"distractors": 1})
    several, _ = colourful({"distractors": 1, "distractor_count": 4})
    _, inside = colourful({"distractors": 1, "distractor_count": 4, "cut_off": 0})
    cut, at_border = colourful({"distractors": 1, "distractor_count": 4, "cut_off": 1})
    assert max(none) < 30 < np.median(one) < np.median(several)
    assert np.sum(at_border) > 2 * np.sum(inside)
    assert np.median(cut) > 0
    signs, _ = colourful({"distractors": 1, "distractor_count": 4, "signs": 1})
    assert max(signs) < 30  # parts of blue scenes on a blue scene


def test_a_sign_is_a_part_of_a_background(tmp_path: Path) -> None:
    make_cutouts(tmp_path / "cutouts", 2)
    save(tmp_path / "scenes" / "a.png", np.full((60, 60, 3), (10, 20, 200), np.uint8))
    save(tmp_path / "scenes" / "b.png", np.full((60, 60, 3), (10, 220, 20), np.uint8))
    settings = DataSettings(
        (str(tmp_path / "cutouts"),), (str(tmp_path / "scenes"),), width=96, height=96,
        augment=AugmentSettings(flip=0),
        composite=CompositeSettings(
            distractors=1, signs=1, shadow=0, match=0, plain=0, same_colour=0, blur_background=0,
            empty=0, objects=1, distractor_count=3,
        ),
    )  # fmt: skip
    data = build_dataset(settings, seed=0)
    with_both = 0
    for number in range(16):
        sample = data[number]
        rgb = cv2.blur(sample.image.numpy().transpose(1, 2, 0), (5, 5)).astype(int)
        free = sample.mask[0].numpy() == 0
        blue, green = (free & (rgb[..., c] > 150) & (rgb[..., 0] < 60) for c in (2, 1))
        with_both += bool(blue.sum() > 40 and green.sum() > 40)
    assert with_both > 3
