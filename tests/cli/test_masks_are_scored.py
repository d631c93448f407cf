"""Every mask that `birefnet remove` writes is scored by `birefnet evaluate`, whatever it shows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from birefnet.evaluation import COLUMNS
from birefnet.evaluation.masks import read_mask
from birefnet.imaging.encoding import encode

LOSSLESS = ("png", "webp", "tiff")
FORMATS = (*LOSSLESS, "jpeg", *(["avif"] if features.check("avif") else []))


@st.composite
def pictures(draw: st.DrawFn) -> NDArray:
    """H x W grey levels of 8 or 16 bits: empty, full, all but empty, few levels or many."""
    height, width = draw(st.sampled_from([(1, 1), (1, 9), (9, 1), (2, 3), (12, 17), (31, 40)]))
    depth = draw(st.sampled_from([np.uint8, np.uint16]))
    top = np.iinfo(depth).max
    levels = draw(
        st.lists(
            st.one_of(st.sampled_from([0, 1, 2, 257, top // 2, top - 1, top]), st.integers(0, top)),
            min_size=1,
            max_size=4,
        )
    )
    noise = np.random.default_rng(draw(st.integers(0, 99)))
    return noise.choice(np.minimum(levels, top), (height, width)).astype(depth)


@pytest.mark.parametrize("format", FORMATS)
@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each example costs two commands
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sources=st.lists(pictures(), min_size=8, max_size=8))
def test_masks_of_the_command(command, bright, format: str, sources: list[NDArray]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("im", "gt"):
            (folder / part).mkdir()
        for index, source in enumerate(sources):
            height, width = source.shape
            Image.fromarray(source).save(folder / "im" / f"{index}.png")
            truth = np.zeros((height, width), np.uint8)
            truth[: (height + 1) // 2, : (width + 1) // 2] = 255
            Image.fromarray(truth).save(folder / "gt" / f"{index}.png")
        made = command("remove", folder / "im", "-t", "mask", "-f", format, "-o", folder / "out")
        assert made.status == 0, made.stderr
        scored = command(
            *("evaluate", "-p", folder / "out", "-t", folder / "gt", "--metrics", "all"),
            *("--format", "json", "-j", 1),
        )
        assert scored.status == 0, scored.stderr
        result = json.loads(scored.stdout)["results"][0]
        assert result["count"] == len(sources)
        for image in result["images"]:
            assert set(COLUMNS) <= set(image)
            assert np.isfinite([image[column] for column in COLUMNS]).all(), image


@pytest.mark.parametrize("format", ["gif", "webp", "png"])
@pytest.mark.parametrize("level", [0, 1, 60, 255])
def test_masks_of_animations(command, bright, tmp_path: Path, format: str, level: int) -> None:
    frames = [Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (level, 255 - level)]
    (tmp_path / "im").mkdir()
    (tmp_path / "gt").mkdir()
    frames[0].save(tmp_path / "im" / "a.gif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "gt" / "a.png")
    made = command("remove", tmp_path / "im", "-t", "mask", "-f", format, "-o", tmp_path / "out")
    assert made.status == 0, made.stderr
    scored = command("evaluate", "-p", tmp_path / "out", "-t", tmp_path / "gt", "-j", 1)
    assert scored.status == 0, scored.stderr
    assert "are animations, of which only the first frame was used" in scored.stderr


@given(
    levels=st.lists(st.integers(0, 65535), min_size=1, max_size=30),
    format=st.sampled_from(LOSSLESS),
    bits=st.sampled_from([8, 16]),
)
@settings(max_examples=60, deadline=None)
def test_a_prediction_is_read_as_it_was_written(levels: list[int], format: str, bits: int) -> None:
    alpha = np.array([levels], np.float32) / 65535
    bits = bits if format in ("png", "tiff") else 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{format}"
        path.write_bytes(encode(alpha, format=format, bits=bits))
        read = read_mask(path).levels
    assert np.abs(read - alpha * 255).max() <= 0.51
