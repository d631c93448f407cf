"""Samples are functions of (settings, seed, number): purity, truth, compositing, caching."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from birefnet.errors import ImageError
from birefnet.imaging.geometry import Preprocess
from birefnet.training.data.batch import Sample, collate
from birefnet.training.data.cache import PixelCache
from birefnet.training.data.dataset import TrainingDataset, build_dataset
from birefnet.training.data.folders import DataError
from birefnet.training.data.render import apply_view, recolour, resize
from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings
from birefnet.training.data.specification import chroma_matrix, sample_view
from data_sets import cutout, make_backgrounds, make_cutouts, make_pairs, photo, save

EVERYTHING = AugmentSettings(
    crop=0.5, scale=0.5, rotate=0.5, colour=0.8, hue=20, grey=0.1, blur=0.3, noise=0.3, jpeg=0.3,
    pepper=0.3,
)  # fmt: skip
STILL = AugmentSettings(flip=0)
SIZE = (64, 96)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_pairs(root / "photos", 6)
    make_cutouts(root / "cutouts", 5)
    make_backgrounds(root / "scenes", 3)
    return root


def settings_for(root: Path, **changes: object) -> DataSettings:
    made = DataSettings(
        sources=(f"{root / 'photos'}=2", str(root / "cutouts")),
        backgrounds=(str(root / "scenes"),),
        width=96,
        height=64,
        augment=EVERYTHING,
        composite=CompositeSettings(photos=0.3, empty=0.1, distractors=0.5, objects=3),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def equal(one: Sample, other: Sample) -> bool:
    return (
        torch.equal(one.image, other.image)
        and torch.equal(one.mask, other.mask)
        and (one.name, one.label, one.number) == (other.name, other.label, other.number)
    )


def test_a_sample_is_a_function_of_seed_and_number(root: Path) -> None:
    data, again = (build_dataset(settings_for(root), seed=7) for _ in range(2))
    other = build_dataset(settings_for(root), seed=8)
    assert data.epoch_length == 19  # 12 photos, 5 cut-outs, and a tenth of all that is empty
    numbers = [40, 3, 0, 17, 18, 19]
    for number in numbers:
        sample = data[number]
        assert sample.image.shape == (3, 64, 96)
        assert sample.mask.shape == (1, 64, 96)
        assert sample.image.dtype == sample.mask.dtype == torch.uint8
        assert equal(sample, again[number])
        assert not equal(sample, other[number])
    in_batch = data.batch(SIZE, numbers)
    assert torch.equal(in_batch.image[2], again[0].image)
    assert in_batch.numbers == tuple(numbers)


def test_subjects_on_one_colour(root: Path) -> None:
    """As `background_color_synthesis` of the released code: grey, about the subject's, or any."""
    settings = settings_for(
        root,
        augment=STILL,
        composite=CompositeSettings(one_colour=1, empty=0, shadow=0, match=0, soften=0, objects=1,
                                    distractors=0),
    )  # fmt: skip
    data = build_dataset(settings, seed=3)
    greys = near = 0
    count = 40
    for number in range(count):
        sample = data[number]
        picture = sample.image.permute(1, 2, 0).numpy().astype(int)
        truth = sample.mask[0].numpy()
        ground = picture[truth == 0]
        assert len(ground)
        assert np.ptp(ground, axis=0).max() <= 3  # but for the rounding of alpha
        colour = np.median(ground, axis=0)
        greys += np.ptp(colour) <= 1
        own = picture[truth == 255].mean(axis=0)
        near += bool((np.abs(colour - own) <= 0.2 * np.maximum(255 - own, own) + 4).all())
    assert greys >= count // 5
    assert near >= count // 5


class _Keys:
    """Batches of numbers for a loader, each with the size of its step."""

    def __init__(self, data: TrainingDataset) -> None:
        self.data = data

    def __iter__(self):  # type: ignore[no-untyped-def]
        for step in range(4):
            yield [(number, self.data.size_at(step)) for number in range(3 * step, 3 * step + 3)]

    def __len__(self) -> int:
        return 4


def test_workers_give_equal_samples_and_share_the_cache(root: Path) -> None:
    settings = settings_for(root, cache="2M", dynamic_width=(64, 128))
    data = build_dataset(settings, seed=1)
    expected = [collate([build_dataset(settings, seed=1)[key] for key in keys])
                for keys in _Keys(data)]  # fmt: skip
    loader = DataLoader(
        data, batch_sampler=_Keys(data), collate_fn=collate, num_workers=2,
        multiprocessing_context="spawn",  # a fork of a process with OpenMP threads may hang
    )  # fmt: skip
    for batch, wanted in zip(loader, expected, strict=True):
        assert torch.equal(batch.image, wanted.image)
        assert torch.equal(batch.mask, wanted.mask)
        assert batch.names == wanted.names
    assert data._cache is not None
    assert data._cache.used > 0  # what the workers have decoded is here


def test_the_mask_follows_the_picture_through_every_change(root: Path) -> None:
    """The disc is the only bright thing, so the truth can be read off the picture."""
    augment = AugmentSettings(flip_vertical=0.5, crop=0.7, scale=0.7, rotate=0.9, rotate_degrees=60)
    settings = settings_for(
        root, sources=(str(root / "photos"),), backgrounds=(), augment=augment,
        composite=CompositeSettings(),
    )  # fmt: skip
    data = build_dataset(settings, seed=2)
    for number in range(30):
        sample = data[number]
        bright = sample.image.min(dim=0).values > 160
        assert (bright == (sample.mask[0] > 127)).float().mean() > 0.975
        assert sample.image.amax(dim=0).min() > 0  # reflected, never filled with black


def test_rotation_reflects() -> None:
    pixels = np.full((40, 60, 4), 200, np.uint8)
    settings = AugmentSettings(rotate=1, rotate_degrees=45, scale=1, scale_range=(0.5, 0.6))
    for seed in range(10):
        view = sample_view(40, 60, settings, np.random.default_rng(seed))
        assert (apply_view(pixels, view, 64, 64) == 200).all()


def test_batches_are_normalised_as_the_weights_ask(root: Path) -> None:
    preprocess = Preprocess(64, 64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    data = build_dataset(settings_for(root), seed=1, preprocess=preprocess)
    batch = data.batch(SIZE, range(3))
    ready = data.to_device_batch(batch, "cpu", 0)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    torch.testing.assert_close(ready.image * std + mean, batch.image / 255, atol=1e-6, rtol=0)
    assert ready.image.dtype == torch.float32
    assert ready.labels.tolist() == [-1] * 3


def test_binary_masks_stay_binary_and_soft_masks_soft(root: Path) -> None:
    for truth in ("binary", "soft"):
        settings = settings_for(root, truth=truth)
        data = build_dataset(settings, seed=3)
        levels = data.to_device_batch(data.batch(SIZE, range(19)), "cpu", 0).mask
        between = (levels > 0.02) & (levels < 0.98)
        assert bool(between.any()) == (truth == "soft")
        assert 0 <= levels.min() <= levels.max() <= 1


def test_half_transparent_subjects_keep_their_level(tmp_path: Path) -> None:
    glass = cutout(0)
    glass[..., 3] //= 2
    save(tmp_path / "glass.png", glass)
    composite = CompositeSettings(empty=0, objects=1, distractors=0)
    settings = DataSettings((str(tmp_path),), width=64, height=64, composite=composite)
    data = build_dataset(settings, seed=0)
    levels = torch.stack([data[i].mask for i in range(8)])
    assert levels.max() <= 128
    assert (levels == 127).float().mean() > 0.05


def test_cutouts_are_composed_with_their_alpha(root: Path) -> None:
    settings = settings_for(
        root, sources=(str(root / "cutouts"),), augment=STILL,
        composite=CompositeSettings(empty=0, plain=0, same_colour=0, shadow=0, match=0,
                                    distractors=0, blur_background=0),
    )  # fmt: skip
    data = build_dataset(settings, seed=4)
    for number in range(15):
        sample = data[number]
        image, inside = sample.image.float(), sample.mask[0] > 250
        assert 0.02 < inside.float().mean() < 0.9
        assert image[0][inside].min() > 150  # red object
        outside = sample.mask[0] < 5
        assert image[2][outside].mean() > 100 > image[0][outside].mean()  # blue scene
        assert image[1].max() < 140  # nothing of the green under transparent pixels


def test_every_cutout_and_empty_scene_has_its_turn(root: Path) -> None:
    settings = settings_for(root, sources=(str(root / "cutouts"),),
                            composite=CompositeSettings(empty=0.375))  # fmt: skip
    data = build_dataset(settings, seed=0)
    samples = [data[i] for i in range(data.epoch_length)]
    assert sorted(s.name for s in samples) == ["c0", "c1", "c2", "c3", "c4", *["empty"] * 3]
    assert all(s.mask.max() == 0 for s in samples if s.name == "empty")


def test_distractors_are_no_subjects(root: Path) -> None:
    composite = CompositeSettings(empty=0, objects=1, distractors=1, extent=(0.3, 0.4))
    settings = settings_for(root, sources=(str(root / "cutouts"),), augment=STILL,
                            composite=composite)  # fmt: skip
    alone = replace(settings, composite=replace(composite, distractors=0))
    areas = [
        np.mean([float((data[i].mask > 127).float().mean()) for i in range(20)])
        for data in (build_dataset(settings, seed=5), build_dataset(alone, seed=5))
    ]
    assert areas[0] <= areas[1] * 1.1


def test_subjects_of_photos_are_objects_as_cutouts_are(root: Path, tmp_path: Path) -> None:
    """Others of them are distractors; where the border cuts a subject, it stays at the border."""
    for folder, middle in (("inside", 48), ("at the border", 0)):
        rgb = np.full((64, 96, 3), (0, 200, 0), np.uint8)
        mask = np.zeros((64, 96), np.uint8)
        for canvas, level in ((rgb, (200, 0, 0)), (mask, 255)):
            cv2.circle(canvas, (middle, 32), 14, level, -1)
        save(tmp_path / folder / "im" / "a.png", rgb)
        save(tmp_path / folder / "gt" / "a.png", mask)
    composite = CompositeSettings(
        empty=0, objects=1, distractors=1, distractor_count=4, photos=1, plain=0, same_colour=0,
        shadow=0, match=0, blur_background=0, extent=(0.4, 0.5),
    )  # fmt: skip

    def samples(folder: str, **changes: float) -> list[Sample]:
        settings = settings_for(
            root, sources=(str(tmp_path / folder),), augment=STILL,
            composite=replace(composite, **changes),
        )  # fmt: skip
        data = build_dataset(settings, seed=3)
        return [data[number] for number in range(12)]

    def red_beside(made: list[Sample]) -> float:
        return float(
            np.mean([((s.image[0] > 150) & (s.mask[0] == 0)).float().mean() for s in made])
        )

    inside = samples("inside")
    assert red_beside(samples("inside", distractors=0)) == 0
    assert red_beside(inside) > 0.005
    assert max(int(s.image[1].max()) for s in inside) < 140  # nothing of the photo's own ground
    assert len({tuple(s.mask.nonzero()[0].tolist()) for s in inside}) > 6
    for sample in samples("at the border"):
        np.testing.assert_array_equal(sample.mask[0], mask)


MASKS = {
    "nothing": np.s_[:0, :0],
    "one pixel": np.s_[20:21, 30:31],
    "a strip at the border": np.s_[:, :3],
    "a strip inside": np.s_[31:32, 10:90],
    "all but two borders": np.s_[:-1, :-1],
}


@pytest.mark.parametrize("kind", MASKS)
def test_every_mask_can_be_composed(kind: str, root: Path, tmp_path: Path) -> None:
    """A crop may leave the subject out; subjects may be nearly nothing, or the whole picture."""
    rgb, mask = photo(1, 64, 96)[0], np.zeros((64, 96), np.uint8)
    mask[MASKS[kind]] = 255
    for folder, pixels in (("im", rgb), ("gt", mask)):
        save(tmp_path / "photos" / folder / "a.png", pixels)
    save(tmp_path / "cutouts" / "a.png", np.dstack([rgb, mask]))
    augment = replace(EVERYTHING, crop=1, crop_least=0.2)
    for signs in (0.0, 0.5):
        composite = CompositeSettings(
            photos=0.9, empty=0, objects=3, distractors=1, distractor_count=3, signs=signs,
            cut_off=0.4, one_colour=0.1, same_colour=0.2,
        )  # fmt: skip
        sources = (str(tmp_path / "photos"), str(tmp_path / "cutouts"))
        data = build_dataset(
            settings_for(root, sources=sources, augment=augment, composite=composite), seed=7
        )
        for number in range(40):
            assert data[number].image.shape == (3, *SIZE)
            assert data[number].mask.shape == (1, *SIZE)


def test_without_backgrounds_cutouts_lie_on_plain_grounds_and_that_is_said(root: Path) -> None:
    data = build_dataset(settings_for(root, backgrounds=()), seed=0)
    assert "data.backgrounds" in data.notes[0]
    data.batch(SIZE, range(10))
    assert build_dataset(settings_for(root), seed=0).notes == []


def test_validation_data_comes_whole_once_and_in_order(root: Path, tmp_path: Path) -> None:
    settings = settings_for(root, sources=(str(root / "photos"), str(root / "cutouts")))
    data = build_dataset(settings, train=False)
    assert len(data) == 11
    assert [data[i].name for i in range(11)] == [f"p{i}" for i in range(6)] + [
        f"c{i}" for i in range(5)
    ]
    rgb, _ = photo(2)
    np.testing.assert_array_equal(data[2].image.permute(1, 2, 0), resize(rgb, 64, 96))
    assert data.size_at(9) == (64, 96)


def test_held_out_pictures_are_never_drawn_and_cutouts_come_composed(root: Path) -> None:
    data = build_dataset(settings_for(root, held_out=0.34), seed=0)
    photos, cutouts = data.validation_split
    kept = {source.name_of(i) for source in data.validation_split for i in range(len(source))}
    assert (len(photos), len(cutouts)) == (2, 2)
    assert not kept & {data[i].name for i in range(2 * data.epoch_length)}
    assert cutouts.kind == "pairs"
    pixels = cutouts.read(1)
    assert pixels.shape == (64, 96, 4)
    np.testing.assert_array_equal(pixels, cutouts.read(1))
    assert pixels[..., 3].max() > 200
    assert pixels[pixels[..., 3] == 0][:, :3].std() > 1  # a background


def test_resizing_is_that_of_inference() -> None:
    from birefnet.imaging import geometry

    rgb = cv2.resize(photo(1)[0], (301, 203))
    np.testing.assert_array_equal(resize(rgb, 64, 96), geometry.resize(rgb, 64, 96))
    four = np.dstack([rgb, rgb[..., 0]])
    np.testing.assert_array_equal(resize(four, 64, 96)[..., :3], geometry.resize(rgb, 64, 96))


def test_labels_come_from_the_names(tmp_path: Path) -> None:
    rgb, truth = photo(0)
    for name in ("1#A#1#Bag#1", "2#B#1#Cat#2"):
        save(tmp_path / "im" / f"{name}.jpg", rgb)
        save(tmp_path / "gt" / f"{name}.png", truth)
    data = build_dataset(DataSettings((str(tmp_path),), width=32, height=32, classes="dis5k"))
    assert data.classes == ("Bag", "Cat")
    assert {data[i].name.split("#")[3]: data[i].label for i in range(2)} == {"Bag": 0, "Cat": 1}


def test_the_cache_changes_nothing_and_keeps_its_limit(root: Path) -> None:
    plain = build_dataset(settings_for(root, longest=50), seed=1)
    for limit in ("20K", "40M"):
        cached = build_dataset(settings_for(root, longest=50, cache=limit), seed=1)
        for _ in range(2):
            assert all(equal(plain[i], cached[i]) for i in range(19))
        assert cached._cache is not None
        assert 0 < cached._cache.used <= cached._cache.limit


def test_a_cached_picture_is_not_decoded_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_dataset(settings_for(root, cache="10M"), seed=1)
    data.batch(SIZE, range(60))
    for source in [*data.sources, *data.backgrounds]:
        monkeypatch.setattr(source, "read", lambda index: pytest.fail("decoded again"))
    data.batch(SIZE, range(60))


def test_cache_survives_pickling_only_for_workers_and_drops_its_file() -> None:
    cache = PixelCache(3, 1000)
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    cache.put(1, picture)
    assert cache.get(0) is None
    np.testing.assert_array_equal(cache.get(1), picture)
    with pytest.raises(ValueError, match="read-only"):
        cache.get(1)[:] = 0  # type: ignore[index]
    cache.put(2, np.zeros((100, 100, 3), np.uint8))  # beyond the limit
    assert cache.get(2) is None
    with pytest.raises(RuntimeError):
        pickle.dumps(cache)


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    make_pairs(tmp_path, 2)
    (tmp_path / "im" / "p1.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    data = build_dataset(DataSettings((str(tmp_path),), width=32, height=32))
    with pytest.raises(ImageError, match=r"p1\.png"):
        data.batch((32, 32), range(2))


def test_missing_or_useless_sources_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="give --data PATH"):
        build_dataset(DataSettings())
    with pytest.raises(DataError, match="pictures without a mask"):
        build_dataset(DataSettings((str(root / "scenes"),)))


def test_colours_change_as_asked() -> None:
    rgb = photo(0)[0]
    grey = recolour(rgb, _colour(chroma_matrix(0, 0)))
    assert int(np.ptp(grey.astype(int), axis=2).max()) <= 1
    np.testing.assert_allclose(chroma_matrix(1, 0), np.eye(3), atol=1e-12)
    turned = chroma_matrix(1, 90)
    np.testing.assert_allclose(turned @ turned @ turned @ turned, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turned @ np.ones(3), 1, atol=1e-2)  # white stays white
    flat = recolour(rgb, _colour(np.eye(3), 0.0))
    assert len(np.unique(flat)) == 1  # no contrast: the mean brightness everywhere


def _colour(linear: np.ndarray, contrast: float = 1.0):  # type: ignore[no-untyped-def]
    from birefnet.training.data.specification import Colour

    return Colour(linear, contrast)


def test_pepper_strikes_the_asked_share(root: Path) -> None:
    augment = replace(STILL, pepper=1, pepper_share=0.05)
    settings = settings_for(
        root, sources=(str(root / "photos"),), backgrounds=(), augment=augment,
        composite=CompositeSettings(),
    )  # fmt: skip
    image = build_dataset(settings, seed=0).batch(SIZE, range(6)).image
    extreme = (image.amin(dim=1) == 255) | (image.amax(dim=1) == 0)
    assert float(extreme.float().mean()) == pytest.approx(0.05, abs=0.006)
