"""`birefnet reproduce`: every item of the paper, small, through the command itself."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from birefnet.cli.main import app
from birefnet.cli.reproduce.paper import ITEMS, Item, find_item, slug
from birefnet.evaluation.published import published_rows
from data_sets import make_pairs

SMALLEST = ("sec4.3", "table6")
"""Those that every run of the suite goes through; the others are slow."""
OWN = [
    item for item in ITEMS if not item.steps[0].words.startswith(("pytest", "python benchmarks"))
]
EACH = pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.key)


def reproduce(*words: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


def said(result: Result) -> str:
    """What was said, without the frames and line breaks of a terminal."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


def test_the_list_names_everything() -> None:
    result = reproduce()
    assert result.exit_code == 0
    for item in ITEMS:
        assert item.key in result.output
        assert item.paper in said(result)


def test_keys_and_rows_are_clear() -> None:
    names = [name for item in ITEMS for name in (item.key, *item.also)]
    assert len(set(names)) == len(names)
    assert find_item("Table 2") is find_item("TABLE2") is not None
    for number in range(1, 10):
        assert any(name.startswith(f"fig{number}") for name in names)
    for number in range(1, 8):
        assert find_item(f"table{number}")
    for item in ITEMS:
        rows = [step.row for step in item.steps if step.row]
        assert (
            rows == [row.method for row in published_rows(item.table)] if item.table else not rows
        )
        assert len({slug(row) for row in rows}) == len(rows)


def test_an_unknown_item_lists_those_there_are() -> None:
    result = reproduce("table99")
    assert result.exit_code == 2
    for item in ITEMS:
        assert item.key in said(result)


@EACH
def test_missing_data_is_named_before_anything_runs(
    item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not item.needs:
        return
    (tmp_path / "empty").mkdir()
    for words in ((), ("--data", "empty"), ("--data", "nowhere")):
        result = reproduce(item.key, *words)
        assert result.exit_code == 2, result.output
        if item.needs != ("pictures",):
            assert all(need in said(result) for need in item.needs)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@EACH
def test_a_dry_run_prints_commands_that_exist(
    item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for need in item.needs:
        make_pairs(tmp_path / "data" / need, 1)
    for words in (("--data", "data"), ("--tiny",)):
        result = reproduce(item.key, *words, "--dry-run")
        assert result.exit_code == 0, result.output
        commands = [line.partition("] ")[2] for line in result.output.splitlines() if "] " in line]
        commands = [shlex.split(line) for line in commands]
        assert len(commands) >= len(item.steps)
        known = {command.name or command.callback.__name__ for command in app.registered_commands}
        for command in commands:
            assert not any("{" in word for word in command)
            if command[0] == "birefnet":
                assert command[1] in known
            elif command[0] == "python":
                assert (Path(__file__).parents[2] / command[1]).is_file()
            else:
                assert (Path(__file__).parents[2] / command[-1]).exists()
    assert not (tmp_path / "reproduce").exists()


def run_small(item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    result = reproduce(item.key, "--tiny")
    assert result.exit_code == 0, result.output
    assert "no number below says anything about the paper" in result.output
    if item.table:
        found = json.loads((tmp_path / f"reproduce/{item.key}-tiny/{item.key}.json").read_text())
        assert found["tiny"]
        for row in found["rows"]:
            assert row["paper"].keys() == row["here"].keys()


@pytest.mark.parametrize("key", SMALLEST)
def test_the_smallest_run(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = find_item(key)
    assert item is not None
    run_small(item, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "item", [item for item in OWN if item.key not in SMALLEST], ids=lambda item: item.key
)
def test_each_runs_small(item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_small(item, tmp_path, monkeypatch)


def test_a_failed_command_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "data" / "DIS-TR", 2)
    (tmp_path / "data" / "DIS-VD").mkdir()
    result = reproduce("sec4.3", "--data", "data")
    assert result.exit_code == 1
    assert "command 1 of 1 ended with status" in said(result)
