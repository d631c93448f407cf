"""`birefnet remove --profile`: the time of each stage, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes import write_animation, write_disc

pytestmark = pytest.mark.usefixtures("bright")
STAGES = ["load", "decode", "prepare", "network", "restore", "refine", "encode", "write"]


def test_table_names_every_stage(command, tmp_path: Path) -> None:
    photo = write_disc(tmp_path / "photo.png")
    result = command("remove", photo, "--profile")
    assert result.status == 0
    rows = [line.split() for line in result.stderr.splitlines()]
    assert [row[0] for row in rows if row and row[0] in STAGES] == STAGES
    assert "on the clock" in result.stderr
    assert "on the clock" not in command("remove", photo).stderr


def test_json_counts_pictures(command, tmp_path: Path) -> None:
    for i in range(3):
        write_disc(tmp_path / f"{i}.png")
    result = command("remove", tmp_path, "-o", tmp_path / "out", "--profile", "--json")
    profile = json.loads(result.stdout)["profile"]
    assert {stage["pictures"] for name, stage in profile["stages"].items() if name != "load"} == {3}
    assert 0 < profile["stages"]["network"]["seconds"] < profile["elapsed"]
    assert "profile" not in json.loads(command("remove", tmp_path, "--json").stdout)


def test_frames_of_an_animation_count(command, tmp_path: Path) -> None:
    moving = write_animation(tmp_path / "moving.gif", frames=3)
    stages = json.loads(command("remove", moving, "--profile", "--json").stdout)["profile"][
        "stages"
    ]
    assert stages["network"]["pictures"] == 3
    assert stages["refine"]["pictures"] == 3
