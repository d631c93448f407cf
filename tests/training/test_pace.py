"""When to save, and how long a run will take: on a clock that the test moves."""

from __future__ import annotations

import io
import random
import time

import pytest
import torch
from rich.console import Console

from birefnet.network.birefnet import BiRefNet
from birefnet.training import memory, pace
from birefnet.training.pace import Pace
from birefnet.training.progress import Report, Terminal
from discs import recipe, tiny


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_costs_at_most_a_tenth_of_a_run_and_saving_a_twentieth(
    seed: int, clock: Clock
) -> None:
    """Whatever steps and saves take: from a run of milliseconds to one of hours."""
    rng = random.Random(seed)
    step, save = 10 ** rng.uniform(-3, 2), 10 ** rng.uniform(-3, 2)
    minutes = rng.choice([0.5, 5, 60])
    begun, kept, pace_of_run = clock.now, clock.now, Pace()
    pace_of_run.saved(0.0)
    saving = 0.0
    for _ in range(500):
        clock.now += step * rng.uniform(0.5, 1.5)
        if pace_of_run.is_save_due(minutes):
            clock.now += save
            saving += save
            pace_of_run.saved(save)
            kept = clock.now
        run = clock.now - begun
        allowed = max(min(0.1 * run, 60 * minutes), 20 * save)
        assert clock.now - kept <= allowed + 1.5 * step + save
        assert saving <= 0.05 * run + 2 * save


def test_nothing_is_saved_by_time_where_that_is_switched_off(clock: Clock) -> None:
    pace_of_run = Pace()
    clock.now += 1e6
    assert not pace_of_run.is_save_due(0.0)
    assert pace_of_run.is_save_due(5.0)


def test_the_time_left_is_said_once_it_is_known(clock: Clock) -> None:
    """A first step of a minute, as compiling takes, is not taken for the pace of the run."""
    pace_of_run = Pace()
    pace_of_run.validated(10.0)
    said = []
    for number, seconds in enumerate((60.0, 5.0, 1.0, 1.1, 0.9, 1.0), 1):
        pace_of_run.stepped(seconds)
        said.append(pace_of_run.seconds_left(100 - number, 3))
    assert said[:3] == [None] * 3
    for number, left in enumerate(said[3:], 4):
        assert left == pytest.approx(100 - number + 30, rel=0.06)
    known = Report(4, 100, 1, 1, {"loss": 1.0}, 0.1, 2.0, 0, seconds_left=said[3])
    assert known.left() == "2 min left"
    assert Report(1, 100, 1, 1, {"loss": 1.0}, 0.1, 2.0, 0).left() == ""


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_time_left_is_shown(is_terminal: bool) -> None:
    """Before the losses, so that no narrow terminal cuts it off."""
    out = io.StringIO()
    shown = Terminal(Console(file=out, force_terminal=is_terminal, width=80))
    losses = {"loss": 1.0, **dict.fromkeys(("bce", "iou", "ssim", "gradient"), 1.0)}
    shown.start(0, 100)
    shown.report(Report(4, 100, 1, 1, losses, 0.1, 2.0, 0, seconds_left=60.0))
    assert not shown.wants_report()
    time.sleep(0.15)  # the bar is drawn ten times a second
    shown.close()
    assert "60 s left" in out.getvalue()
    assert "4/100" in out.getvalue()


# Memory on the device that is named


def test_memory_is_that_of_the_named_device_without_the_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a CPU that plays a card: each question names the device, free memory is asked first."""
    device = torch.device("cuda:1")
    asked: list[tuple[str, object]] = []

    def answers(name: str, value: object) -> None:
        def answer(which: object = None) -> object:
            asked.append((name, which))
            return value

        monkeypatch.setattr(torch.cuda, name, answer)

    for name in ("synchronize", "reset_peak_memory_stats"):
        answers(name, None)
    for name, value in (
        ("memory_allocated", 10 << 20),
        ("memory_reserved", 30 << 20),
        ("max_memory_allocated", 60 << 20),
        ("mem_get_info", (500 << 20, 0)),
    ):
        answers(name, value)
    monkeypatch.setattr(BiRefNet, "to", lambda self, to: asked.append(("to", to)) or self)
    for name in ("randn", "rand"):
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *shape, device, make=make: make(*shape))
    estimate = memory.estimate(recipe(), tiny(), device, "no")
    assert estimate.available == 520 << 20
    assert {which for _, which in asked} == {device}
    names = [name for name, _ in asked]
    assert names.index("mem_get_info") < names.index("to")
    assert estimate.per_picture == 50 << 20
