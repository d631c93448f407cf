"""A budget of pixels: what all pictures that are decoded at a time may have together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from birefnet.serving.errors import Overloaded


class PixelBudget:
    """Lets pictures in, in the order of their arrival, while there is room for their pixels.

    Args:
        most: pixels at a time; one picture that has more comes in alone.

    Attributes:
        held: pixels that are in.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[Callable[[int], None]]:
        """Wait for room for so many pixels, and keep it within the block.

        Gives a function that adds pixels to them (nothing for a negative number), from any thread;
        it raises `Overloaded` where so much is not left.
        """
        if self._waiting or not self._take(pixels, own=0):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((pixels, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(pixels)
                else:
                    self._waiting = deque(item for item in self._waiting if item[1] is not turn)
                    self._admit()
                raise
        own = pixels

        def add(more: int) -> None:
            nonlocal own
            if more > 0:
                if not self._take(more, own):
                    raise Overloaded
                own += more

        try:
            yield add
        finally:
            self._give_back(own)

    def _take(self, pixels: int, own: int) -> bool:
        """Whether there is room, which is taken then; always for who has all that is held."""
        with self._lock:
            fits = self.held <= own or self.held + pixels <= self.most
            if fits:
                self.held += pixels
            return fits

    def _give_back(self, pixels: int) -> None:
        with self._lock:
            self.held -= pixels
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._take(self._waiting[0][0], own=0):
            pixels, turn = self._waiting.popleft()
            if turn.done():  # it was cancelled meanwhile
                with self._lock:
                    self.held -= pixels
            else:
                turn.set_result(None)
