"""`--high-resolution` is `--refine-passes 2`, by whatever name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from birefnet.cli.main import app
from fakes import write_disc


def test_both_names_give_the_same(tmp_path: Path) -> None:
    picture = write_disc(tmp_path / "disc.png", height=900, width=1200)
    results = []
    for number, words in enumerate(([], ["--refine-passes", "2"], ["--high-resolution"])):
        out = tmp_path / f"{number}.png"
        command = ["remove", str(picture), "-o", str(out), "--type", "mask", *words]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        results.append(np.asarray(Image.open(out)))
    assert np.array_equal(results[1], results[2])
    assert not np.array_equal(results[0], results[1])
