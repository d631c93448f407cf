"""What `birefnet remove` makes of the examples, and samples of training data, stay as they were.

A picture that differs is written beside the expected one; the failure says where. Where that is
meant, `python tests/test_public_names.py KIND` writes the references anew (KIND is remove_pixels,
training_samples or nano_alpha), and the changelog says what users will see.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import golden

CASES = [(kind, title) for kind, (titles, _) in golden.KINDS.items() for title in titles]
NEEDED = dict.fromkeys(("closed-form", "lbdm", "lkm"), "pymatting")


@pytest.mark.parametrize(("kind", "title"), CASES, ids=[f"{k}: {t}" for k, t in CASES])
def test_pictures_change_only_on_purpose(kind: str, title: str, tmp_path: Path) -> None:
    for word, package in NEEDED.items():
        if word in title:
            pytest.importorskip(package)
    made = golden.KINDS[kind][1](title)
    found = golden.differences(kind, title, made, tmp_path)
    assert not found, "\n".join(found)


def test_the_bundled_weights_give_the_alpha_that_they_gave(tmp_path: Path) -> None:
    """Within what engines and processors differ by; other weights need another reference."""
    now = golden.nano_alpha()
    with Image.open(golden.REFERENCE / "nano_alpha.png") as image:
        before = np.asarray(image)
    difference = np.abs(now.astype(int) - before)
    both = tmp_path / "before and now.png"
    Image.fromarray(np.hstack([before, now])).save(both)
    assert difference.mean() < 0.5, both
    assert np.quantile(difference, 0.99) <= 4, both


def test_a_changed_picture_is_found_and_shown(tmp_path: Path) -> None:
    title = golden.REMOVED[0]
    made = golden.removed(title)
    other = golden.Golden(title, made[0].name, 255 - made[0].pixels)
    assert len(golden.differences("remove_pixels", title, [other, *made[2:]], tmp_path)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"000 before and now.png", "000 now.png"}
