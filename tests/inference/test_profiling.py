"""Times of stages add up over threads, and the predictor reports each of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from birefnet.inference.predictor import Predictor
from birefnet.inference.stream import Profile, StageTime, timed
from fakes import PLAIN, BrightEngine, disc


def test_stages_add_up_over_threads() -> None:
    profile = Profile()

    def work(_: int) -> None:
        with timed(profile, "decode"):
            time.sleep(0.02)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    spent = profile.times["decode"]
    assert spent.pictures == 4
    assert spent.seconds >= 4 * 0.02
    assert spent.milliseconds == pytest.approx(250 * spent.seconds)


def test_a_failing_stage_counts_and_stages_are_in_order() -> None:
    profile = Profile()
    with pytest.raises(ZeroDivisionError), profile.stage("write"):
        _ = 1 / 0
    profile.add("my own", 1.0)
    profile.add("load", 2.0, pictures=0)
    assert list(profile.times) == ["load", "write", "my own"]
    assert profile.times["load"] == StageTime(2.0, 0)
    report = profile.to_dict()
    assert report["stages"]["my own"] == {"seconds": 1.0, "pictures": 1}
    assert report["elapsed"] >= 0 < profile.elapsed


def test_no_profile_costs_nothing_and_changes_nothing() -> None:
    with timed(None, "decode"):
        pass


def test_predictor_times_its_stages() -> None:
    predictor = Predictor(BrightEngine(), PLAIN)
    predictor.profile = Profile()
    predictor.predict([disc(), disc(), disc()], batch_size=2)
    times = predictor.profile.times
    assert list(times) == ["decode", "prepare", "network", "restore"]
    assert {spent.pictures for spent in times.values()} == {3}
