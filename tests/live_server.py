"""A real server in a thread, for what only connections show: clients that leave, and its end."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.inference.predictor import Predictor
from birefnet.serving.app import create_app
from birefnet.serving.running import address, bind, run
from birefnet.serving.settings import ServerSettings
from fakes import PLAIN, BrightEngine


class SlowEngine(BrightEngine):
    """Waits at each batch until `go` is set; `began` says that it waits."""

    def __init__(self, batch_size: int = 1) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.go, self.began = threading.Event(), threading.Event()

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.began.set()
        assert self.go.wait(20)
        return super().infer(batch)


class Live:
    """A server that runs; `stop()` asks it to end, as SIGTERM would."""

    def __init__(self, app: Any, listening: Any) -> None:
        self.app, self.url = app, address(listening)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(listening,), daemon=True)

    def _run(self, listening: Any) -> None:
        self._stop = asyncio.Event()

        def started() -> None:
            self._loop = asyncio.get_running_loop()
            self.ready.set()

        run(self.app, listening, started, stop=self._stop)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def live(
    engine: BrightEngine | Predictor, settings: ServerSettings | None = None
) -> Iterator[Live]:
    """A server of this engine at a free port; it ends with the block."""
    settings = settings or ServerSettings(page=False, grace_s=5)
    if not isinstance(engine, Predictor):
        engine = Predictor(engine, PLAIN, name="bright")
    app = create_app(engine, settings)
    with closing(bind("127.0.0.1", 0)) as listening:
        server = Live(app, listening)
        server.thread.start()
        assert server.ready.wait(30)
        try:
            yield server
        finally:
            if server.thread.is_alive():
                server.stop()
            server.thread.join(60)
            assert not server.thread.is_alive()


if __name__ == "__main__":  # for tests that need the server in a process of its own
    with live(BrightEngine()) as running:
        print(running.url, flush=True)
        sys.stdin.read()
