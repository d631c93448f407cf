"""Ctrl-C and SIGTERM in the middle of each long command: one sentence, 130 or 143, nothing half."""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from birefnet import terminal
from birefnet.cli.options import GO_ON
from cli.conftest import Command
from cli.test_exit_status import place
from cli.test_progress import CASES

__all__ = ["place"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


class Interruption:
    """Sends a signal to this process at the first progress of a command, or before it begins."""

    def __init__(self, number: int, *, is_early: bool) -> None:
        self.number, self.is_early, self.sent = number, is_early, False

    def begin(self, bar: object) -> None:
        if self.is_early:
            self.update(bar)

    def update(self, *_: object) -> None:
        if not self.sent:
            self.sent = True
            signal.raise_signal(self.number)


class Bars(list[object]):
    """In place of `terminal._open`: tells of each bar."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption

    def append(self, bar: object) -> None:
        super().append(bar)
        self.interruption.begin(bar)


@pytest.mark.parametrize(
    ("number", "is_early"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.usefixtures("bright")
def test_each_command_ends_with_a_sentence(
    name: str,
    arguments: str,
    number: signal.Signals,
    is_early: bool,
    place: Path,
    command: Command,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    words = [*name.split(), *shlex.split(arguments)]
    before = set(place.rglob("*"))
    interruption = Interruption(number, is_early=is_early)
    with monkeypatch.context() as patch:
        patch.setattr(terminal, "_open", Bars(interruption))
        patch.setattr(terminal, "_update", interruption.update)
        done = command(*words, stdin=bytes(48))
    if not interruption.sent:
        pytest.skip("it shows how far it is in no other way than that it has begun")
    if name == "video" and not is_early:  # it had one frame; `test_ctrl_c_and_resume` has more
        assert done.status == 0, done.stderr
        return
    assert done.status == 128 + number, done.stderr
    ends = ("interrupted", "no picture was cut out", "Error: stopped after")
    said = [line for line in done.stderr.splitlines() if line.startswith(ends)]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    made = {path.name for path in set(place.rglob("*")) - before}
    assert not [one for one in made if one.startswith(".") or one.endswith((".tmp", ".part"))]
    assert not list(scratch.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if name.split()[-1] in GO_ON:
        assert "the same command goes on" in said[0]
        assert command(*words).status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_within_a_command_is_waited_for(
    number: signal.Signals,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`reproduce` hands SIGTERM on; Ctrl-C reaches the whole group by itself."""
    pytest.importorskip("accelerate")
    from birefnet.cli.reproduce import command as reproduce

    ready, saved = tmp_path / "ready", tmp_path / "saved"
    code = f"""if True:
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.3)
            pathlib.Path({str(saved)!r}).touch()
            sys.exit(1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, save)
        pathlib.Path({str(ready)!r}).touch()
        time.sleep(60)
    """
    monkeypatch.setattr(reproduce, "_CLONE", Path(__file__).parents[2])
    monkeypatch.setattr(reproduce, "_words", lambda *_, **__: ["python", "-c", code])
    popen = reproduce.subprocess.Popen
    children = []

    def start(*arguments: object, **options: object) -> object:
        children.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return children[-1]

    monkeypatch.setattr(reproduce.subprocess, "Popen", start)

    def interrupt() -> None:
        while not ready.exists():
            threading.Event().wait(0.02)
        if number == signal.SIGINT:
            children[0].send_signal(number)
        os.kill(os.getpid(), number)

    helper = threading.Thread(target=interrupt)
    helper.start()
    done = command("reproduce", "eq6", "--tiny", "-o", tmp_path / "out")
    helper.join()
    assert done.status == 128 + number, done.stderr
    assert "interrupted; the same command goes on from here" in done.stderr
    assert saved.exists()
    assert children[0].returncode == 1


def test_what_the_caller_ignores_stays_ignored(command: Command) -> None:
    """As under `nohup`, or for a job that a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert command("models", "list").status == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
