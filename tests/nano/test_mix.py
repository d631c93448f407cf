"""The data stream on a few generated pictures: split, cache, compositing, reproducibility."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.training.data import scenery
from birefnet.training.data.thin_structures import _KINDS, thin_structure
from tools.nano import augment, composite
from tools.nano.mix import Mix, MixConfig, MixDataset
from tools.nano.split import is_held_out, pairs
from tools.nano.store import PictureStore


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of photos, two of cut-outs, a background and a panorama."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def write(path: str, picture: np.ndarray) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / path), picture)

    for i in range(12):
        mask = np.zeros((60, 90), np.uint8)
        cv2.circle(mask, (40, 30), 14, 255, -1)
        photo = rng.integers(0, 120, (60, 90, 3), dtype=np.uint8)
        photo[mask > 0] = 240
        for kind in ("clothing", "cats"):
            write(f"photos/{kind}/im/{kind}{i}.jpg", photo)
            write(f"photos/{kind}/gt/{kind}{i}.png", mask)
        rgba = np.zeros((50, 40, 4), np.uint8)
        cv2.ellipse(rgba, (20, 25), (15, 20), 0, 0, 360, (30, 60, 250, 255), -1)
        write(f"cutouts/renders/r{i}.png", rgba)
        write(f"cutouts/emoji/e{i}.png", rgba)
    for i in range(3):
        write(f"backgrounds/b{i}.jpg", rng.integers(0, 255, (80, 80, 3), dtype=np.uint8))
        write(f"panoramas/p{i}.jpg", rng.integers(0, 255, (64, 128, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> PictureStore:
    return PictureStore.build(data, tmp_path_factory.mktemp("cache"), longest=64)


def test_a_tenth_is_held_out_by_the_stem_of_the_name_alone() -> None:
    names = [f"picture{i}.jpg" for i in range(3000)]
    assert 0.08 < np.mean([is_held_out(name) for name in names]) < 0.12
    assert all(is_held_out(name) == is_held_out(name[:-4] + ".png") for name in names[:100])


def test_recoloured_copies_of_one_photo_are_held_out_together() -> None:
    for i in range(200):
        twins = {
            is_held_out(f"group{i}_png.rf.{digest}.jpg") for digest in ("11f8", "c6f4", "f9d0")
        }
        assert twins == {is_held_out(f"group{i}_png.jpg")}


def test_store_holds_the_pictures_shrunk_with_their_truth(store: PictureStore) -> None:
    assert set(store.kinds()) == {
        "clothing", "cats", "renders", "emoji", "backgrounds", "panoramas",
    }  # fmt: skip
    both = store.select("cats") + store.select("cats", kept_out=True)
    assert len(both) == 12
    pixels = store.pixels(both[0])
    assert pixels.shape == (43, 64, 4)
    inside = pixels[..., 3] > 200
    assert 0.05 < inside.mean() < 0.3
    assert pixels[inside][:, :3].mean() > 200 > 100 > pixels[pixels[..., 3] == 0][:, :3].mean()


def test_a_photo_without_truth_is_named(tmp_path: Path) -> None:
    for name in ("im", "gt"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "im" / "lonely.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"lonely\.png has no mask"):
        pairs(tmp_path)


def test_an_empty_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        PictureStore.build(tmp_path / "nothing", tmp_path / "cache")


def test_held_out_pictures_are_never_drawn(store: PictureStore) -> None:
    mix = Mix(store)
    drawn = [entry for kind in mix._entries.values() for entry in kind]
    assert drawn
    assert not any(is_held_out(entry.name) for entry in drawn)


def test_sample_is_a_function_of_seed_and_number(store: PictureStore, data: Path) -> None:
    folder = Path(store._pixels.filename).parent
    one, other = MixDataset(folder, 64, seed=3), MixDataset(folder, 64, seed=4)
    again = MixDataset(folder, 64, seed=3)
    for i in (5, 0, 9):
        picture, truth = one[i]
        assert picture.shape == (3, 64, 64)
        assert truth.shape == (1, 64, 64)
        assert all((a == b).all() for a, b in zip((picture, truth), again[i], strict=True))
        assert (picture != other[i][0]).any()


@pytest.mark.parametrize("what", ["photo", "composite", "empty"])
def test_each_part_of_the_mix(store: PictureStore, what: str) -> None:
    shares = {"photo": 0.0, "composite": 0.0, "empty": 0.0, what: 1.0}
    mix = Mix(store, MixConfig(**shares))
    covered = []
    for i in range(24):
        rgb, truth = mix.sample(np.random.default_rng(i), 64)
        assert rgb.shape == (64, 64, 3)
        assert rgb.dtype == truth.dtype == np.uint8
        covered.append((truth > 127).mean())
    if what == "empty":
        assert max(covered) == 0
    else:
        assert 0.03 < np.mean(covered) < 0.6


def test_crop_moves_picture_and_truth_alike() -> None:
    mask = np.zeros((70, 100), np.uint8)
    cv2.circle(mask, (60, 30), 18, 255, -1)
    for i in range(20):
        picture = np.dstack([mask] * 4)
        out = augment.crop(picture, 48, np.random.default_rng(i), least=0.5, upright=False)
        assert out.shape == (48, 48, 4)
        np.testing.assert_array_equal(out[..., 0], out[..., 3])


def test_filled_scene_has_lost_its_subject() -> None:
    picture = np.zeros((40, 100, 4), np.uint8)
    picture[..., :3] = np.arange(100)[None, :, None]
    picture[5:35, 40:60] = 255
    scene = augment.fill_subject(picture)
    assert scene is not None
    assert scene.max() < 100
    picture[:, 5:95, 3] = 255
    assert augment.fill_subject(picture) is None


@pytest.mark.parametrize("kind", range(len(_KINDS)))
def test_strands_are_thin_and_soft(kind: int) -> None:
    canvas = np.zeros((192, 192), np.uint8)
    _KINDS[kind](canvas, 192, np.random.default_rng(kind))
    assert 0.002 < (canvas > 0).mean() < 0.7
    alpha = thin_structure(64, np.random.default_rng(kind))
    assert alpha.shape == (64, 64)
    assert ((alpha > 0.1) & (alpha < 0.9)).any()


def test_over_is_the_compositing_formula() -> None:
    alpha = np.full((4, 4), 0.25, np.float32)
    layer = np.dstack([np.full((4, 4, 3), 0.8, np.float32) * 0.25, alpha])
    rgb, truth = composite.over(layer, np.full((4, 4, 3), 0.4, np.float32), np.zeros((4, 4)))
    np.testing.assert_allclose(rgb, 0.25 * 0.8 + 0.75 * 0.4, rtol=1e-6)
    np.testing.assert_allclose(truth, 0.25)


def test_placed_cutout_has_about_the_asked_extent() -> None:
    cutout = np.zeros((80, 30, 4), np.uint8)
    cutout[10:70, 5:25] = 255
    for i in range(10):
        rng = np.random.default_rng(i)
        layer = composite.place(cutout, 96, rng, traced=False, extent=0.5)
        assert (layer[..., :3] <= layer[..., 3:] + 1e-5).all()
        area = layer[..., 3].sum()
        assert area == pytest.approx(48 * 16, rel=0.15)


def test_panorama_view_wraps_around_and_stays_in_range() -> None:
    panorama = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    for i in range(8):
        view = scenery.panorama_view(panorama, 24, np.random.default_rng(i))
        assert view.shape == (24, 24, 3)
        assert 0 <= view.min() <= view.max() <= 1


def test_flat_patch_stays_in_range_and_is_premultiplied() -> None:
    picture = np.random.default_rng(0).random((48, 48, 3), dtype=np.float32)
    for i in range(12):
        patch = scenery.flat(picture, np.random.default_rng(i))
        assert patch.shape == (48, 48, 4)
        assert (patch[..., :3] <= patch[..., 3:] + 1e-5).all()


def test_an_object_is_moved_so_that_the_nearest_side_cuts_it() -> None:
    layer = np.zeros((60, 60, 4), np.float32)
    layer[20:40, 4:24] = 1
    for i in range(8):
        moved = composite.to_border(layer, np.random.default_rng(i))[..., 3]
        assert moved[:, 0].max() > 0.5
        assert 0.2 < moved.sum() / layer[..., 3].sum() < 0.8


def test_distractors_are_in_the_picture_and_not_in_the_truth(store: PictureStore) -> None:
    shares = {"photo": 0.0, "composite": 1.0, "empty": 0.0}
    clean = Mix(store, MixConfig(**shares, distractor=0))
    scene = np.full((64, 64, 3), 0.5, np.float32)
    changed = [
        (clean._distract(scene, np.random.default_rng(i), 0.9) != scene).any(axis=2).mean()
        for i in range(12)
    ]
    assert all(0 < share < 1 for share in changed)
