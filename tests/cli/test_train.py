"""`birefnet train`: what it asks for, what it refuses, what it says, a run from end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("accelerate")
pytest.importorskip("yaml")

import yaml

import birefnet
from birefnet.cli.main import app
from birefnet.training.data.sources import read_some
from discs import disc

SMALL = [
    "--set", "data.width=64", "--set", "data.height=64", "--set", "loop.workers=0",
    "--set", "schedule.batch_size=2", "--set", "validation.previews=1",
    "--set", "loop.trackers=none", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures with truth."""
    root = tmp_path_factory.mktemp("data")
    for part in ("im", "gt"):
        (root / part).mkdir()
    for number in range(12):
        pixels = disc(number)
        cv2.imwrite(str(root / "im" / f"{number}.png"), pixels[..., 2::-1])
        cv2.imwrite(str(root / "gt" / f"{number}.png"), pixels[..., 3])
    return root


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_recipes_are_listed() -> None:
    result = invoke("--list")
    assert result.exit_code == 0
    for name in ("dis5k", "hrsod", "cod", "general-2k", "matting", "portrait", "finetune"):
        assert name in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "finetune"], "--output RUN is missing"),
        (["--output", "RUN"], "--recipe NAME is missing"),
        (["--output", "RUN", "--variant", "paper"], "--variant needs --recipe"),
        (["--output", "RUN", "--recipe", "dis6k"], "no recipe 'dis6k'; there are dis5k"),
        (
            ["--output", "RUN", "--recipe", "finetune", "--variant", "paper"],
            "has no variant 'paper'",
        ),
        (["--output", "RUN", "--recipe", "finetune"], "give --data PATH"),
        (["--output", "RUN", "--recipe", "finetune", "--init", "nothing-there"], "nothing-there"),
        (["--output", "RUN", "--resume"], "there is no run in"),
        (
            ["--output", "RUN", "--recipe", "finetune", "--set", "loss.iuo=1"],
            "did you mean loss.iou",
        ),
        (["--output", "RUN", "--recipe", "finetune", "--config", "x.yaml"], "cannot read x.yaml"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code != 0
    assert message in (str(result.exception) + result.output)
    assert not Path("RUN").exists()


def test_dry_run_prints_the_recipe_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    result = invoke(
        "--recipe", "finetune", "--data", data, "--replay", data, "--freeze-encoder",
        "--output", tmp_path / "run", "--dry-run", *SMALL,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run").exists()
    values = yaml.safe_load(result.stdout)
    assert values["data"]["sources"] == [str(data), f"{data}=20%"]
    assert values["loop"]["frozen_encoder"] is True
    assert values["data"]["held_out"] == 0.1
    assert "expected time" in result.stderr
    assert "a step with 2 pictures at a time needs about" in result.stderr


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("data/im/0.png", "0.png"),
        ("data/gt/7.png", "7.png"),
        ("validation/im/3.png", "3.png"),
        ("backgrounds/5.png", "5.png"),
        (None, "opened 36 of 36 pictures"),
    ],
)
def test_a_dry_run_opens_pictures_of_every_source(
    broken: str | None, message: str, data: Path, tmp_path: Path
) -> None:
    for name, source in (("data", data), ("validation", data), ("backgrounds", data / "im")):
        shutil.copytree(source, tmp_path / name)
    if broken:
        whole = (tmp_path / broken).read_bytes()
        (tmp_path / broken).write_bytes(whole[: len(whole) // 2])
    result = invoke(
        "--recipe", "finetune", "--init", "nano", "--data", tmp_path / "data",
        "--validate", tmp_path / "validation",
        "--set", f"data.backgrounds={tmp_path / 'backgrounds'}", "--dry-run", *SMALL,
    )  # fmt: skip
    assert message in str(result.exception) + result.output
    assert (result.exit_code == 0) == (broken is None)


def test_a_dry_run_of_a_large_set_opens_the_first_the_last_and_some_between() -> None:
    class Counted:
        name, kind = "a set", "pairs"

        def __init__(self, count: int) -> None:
            self.count, self.read_ones = count, []  # type: ignore[var-annotated]

        def __len__(self) -> int:
            return self.count

        def read(self, index: int) -> None:
            self.read_ones.append(index)

    for count, expected in ((1, [0]), (3, [0, 1, 2]), (1000, [0, 333, 666, 999])):
        source = Counted(count)
        assert read_some(source, 4) == len(expected)  # type: ignore[arg-type]
        assert source.read_ones == expected


def test_the_pictures_are_as_large_as_the_weights_ask_for(data: Path, tmp_path: Path) -> None:
    from birefnet.cli.train.options import TrainOptions
    from birefnet.cli.train.plan import resolve_recipe

    request = TrainOptions(recipe="finetune", init="nano", data=[str(data)], output=tmp_path)
    recipe = resolve_recipe(request)
    size = birefnet.load("nano").preprocess
    assert (recipe.data.width, recipe.data.height) == (size.width, size.height)
    larger = TrainOptions(recipe="finetune", init="nano", assignments=["data.width=640"])
    assert resolve_recipe(larger).data.width == 640


def test_fine_tune_stop_resume_and_use(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [
        "--recipe", "finetune", "--init", "nano", "--data", data, "--output", run, *SMALL,
        "--set", "validation.every=2",
    ]  # fmt: skip
    result = invoke(*command, "--set", "schedule.steps=2")
    assert result.exit_code == 0, result.output
    assert "use it: birefnet remove PICTURE --model" in result.stderr
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["init"], recipe["schedule"]["steps"]) == ("nano", 2)
    assert recipe["loop"]["frozen_encoder_norms"] is True

    again = invoke(*command)
    assert again.exit_code == 1
    assert "continue it with --resume" in str(again.exception)

    longer = invoke("--resume", "--output", run, "--set", "schedule.steps=3")
    assert longer.exit_code == 0, longer.output
    assert "continuing after step 2 of 3" in longer.stderr
    for option, name, there in (
        ("recipe", "cod", "finetune"),
        ("variant", "paper", "recommended"),
        ("init", "lite", "nano"),
    ):
        other = invoke("--resume", "--output", run, f"--{option}", name)
        assert f"is a run with --{option} {there}, not {name}" in str(other.exception)
    same = invoke(*command, "--set", "schedule.steps=4", "--resume")
    assert same.exit_code == 0, same.output
    assert "continuing after step 3 of 4" in same.stderr

    predictor = birefnet.load(run / "best")
    assert (predictor.preprocess.width, predictor.licence) == (64, birefnet.load("nano").licence)
    assert predictor.predict(disc(5)[..., :3]).alpha.shape == (64, 64)
