"""A budget of pixels: what all pictures that are decoded at a time may have together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from birefnet.serving.errors import Overloaded


class Hold:
    """A picture's share of a budget.

    Args:
        budget: of which it is a part.
        pixels: that it has.
    """

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        self._budget, self.pixels = budget, pixels

    def grow(self, pixels: int) -> None:
        """Make it as large as this, from any thread; a smaller number changes nothing.

        Raises:
            Overloaded: so much is not left.
        """
        more = pixels - self.pixels
        if more > 0:
            self._budget.take_more(more, self.pixels)
            self.pixels = pixels


class PixelBudget:
    """Lets pictures in, in the order of their arrival, while there is room for their pixels.

    Args:
        most: pixels at a time; one picture that has more comes in alone.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Pixels that are in."""
        return self._held

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[Hold]:
        """Wait for room for so many pixels, and keep it within the block."""
        hold = Hold(self, pixels)
        if self._waiting or not self._take(pixels):
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
        try:
            yield hold
        finally:
            self._give_back(hold.pixels)

    def take_more(self, pixels: int, own: int) -> None:
        """More for one that has its share already; see `Hold.grow`."""
        with self._lock:
            if self._held + pixels > self.most and self._held > own:
                raise Overloaded
            self._held += pixels

    def _take(self, pixels: int) -> bool:
        with self._lock:
            fits = not self._held or self._held + pixels <= self.most
            if fits:
                self._held += pixels
            return fits

    def _give_back(self, pixels: int) -> None:
        with self._lock:
            self._held -= pixels
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._take(self._waiting[0][0]):
            pixels, turn = self._waiting.popleft()
            if turn.done():  # it was cancelled meanwhile
                with self._lock:
                    self._held -= pixels
            else:
                turn.set_result(None)
