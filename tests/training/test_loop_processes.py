"""Several processes (gloo, on this machine) train as one; a killed run is resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")

import birefnet
from birefnet.training.run_folder import RunFolder

TESTS = Path(__file__).parents[1]
WORKER = str(TESTS / "training_worker.py")
SAME = ["loop.batch_norm=frozen", "loop.clip=0"]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(TESTS), str(Path(birefnet.__file__).parents[1])])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def launch(processes: int, *arguments: str) -> None:
    """Run the worker, in several processes by torchrun."""
    command = [sys.executable, WORKER]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes),
            "--master_addr", "127.0.0.1", "--master_port", str(random.randint(20000, 60000)),
            WORKER,
        ]  # fmt: skip
    done = subprocess.run(
        [*command, *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_give_the_gradients_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    """BatchNorms are frozen: PyTorch synchronises them on GPUs only."""
    launch(1, "gradients", str(tmp_path / "one"), "schedule.batch_size=4", *SAME)
    two = ["schedule.batch_size=1", "schedule.accumulate=2", *SAME]
    launch(2, "gradients", str(tmp_path / "two"), *two)
    one = torch.load(tmp_path / "one" / "gradients-0.pt")
    for rank in (0, 1):
        other = torch.load(tmp_path / "two" / f"gradients-{rank}.pt")
        assert one.keys() == other.keys()
        for name in one:
            scale = one[name].abs().max()
            assert (one[name] - other[name]).abs().max() <= 1e-4 * scale + 1e-7, name


def test_two_processes_resume_bit_for_bit_and_one_writes(tmp_path: Path) -> None:
    settings = ["schedule.batch_size=1", "schedule.steps=4"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    launch(2, "run", whole, *settings, "+", "1", parts, *settings)
    launch(2, "run", parts, *settings)
    states = [RunFolder(tmp_path / name).load_state() for name in ("whole", "parts")]
    for key in ("network", "average"):
        one, other = states[0][key], states[1][key]
        assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [line["step"] for line in RunFolder(tmp_path / "whole").read_metrics()]
    assert steps == [0, 2, 3, 4, 4]  # each line once: one process writes


@pytest.mark.slow
def test_killed_at_any_moment_the_run_resumes_as_if_nothing_had_been(tmp_path: Path) -> None:
    """SIGKILL at random times, again and again, until the run gets through."""
    settings = ["schedule.steps=60", "loop.save_every=3", "validation.every=7"]
    launch(1, "run", str(tmp_path / "whole"), *settings)
    rng, folder = random.Random(0), tmp_path / "killed"
    kills, steps = 0, []
    while kills < 8:
        worker = subprocess.Popen(
            [sys.executable, WORKER, "run", str(folder), *settings],
            env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(rng.uniform(0.0, 2.0))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        kills += 1
        run = RunFolder(folder)
        if run.state.exists():  # what is there is whole
            steps.append(run.load_state()["step"])
            for model in (run.last, run.best):
                if (model / "config.json").exists():
                    birefnet.load_network(model)
    assert steps == sorted(steps)
    launch(1, "run", str(folder), *settings)
    whole, killed = (RunFolder(path).load_state() for path in (tmp_path / "whole", folder))
    for key in ("network", "average"):
        assert all(torch.equal(whole[key][name], killed[key][name]) for name in whole[key])
    assert (whole["best"], whole["best_step"]) == (killed["best"], killed["best_step"])
    lines = [line for line in RunFolder(folder).read_metrics() if "loss" in line]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert not list(folder.rglob("*.part"))


def test_a_killed_run_loses_little_though_no_step_to_save_at_was_reached(tmp_path: Path) -> None:
    """SIGKILL in step 40; steps alone would save at the ten-thousandth."""
    settings = ["schedule.steps=20000", "loop.save_every=10000", "validation.every=10000"]
    worker = subprocess.run(
        [sys.executable, WORKER, "SIGKILL", str(tmp_path), *settings],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    assert RunFolder(tmp_path).load_state()["step"] >= 0.85 * 40


def test_a_signal_saves_and_ends_the_run(tmp_path: Path) -> None:
    """In a process of its own, in which no other library has taken signals into its hands."""
    names, six = ("SIGINT", "SIGTERM"), "schedule.steps=6"
    one, other = (str(tmp_path / name) for name in names)
    launch(1, names[0], one, six, "+", names[1], other, six)
    assert [RunFolder(tmp_path / name).load_state()["step"] for name in names] == [3, 3]
    launch(1, "4", one, six, "+", "4", other, six)
    assert [RunFolder(tmp_path / name).load_state()["step"] for name in names] == [4, 4]
