"""The interface of an engine, and the parts that all engines share."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Engine(Protocol):
    """Runs one network on one device at one precision.

    Attributes:
        name: engine, device and precision for people to read, such as "torch cuda:0 fp16".
        batch_size: how many pictures at a time pay on this device; callers may send any number.
    """

    name: str
    batch_size: int

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            batch: float32 [B, 3, H, W], normalised by the weights' preprocessing; H and W are
                multiples of 32. Where `takes_guidance` says so, also [B, 4, H, W], whose last
                channel is that of `birefnet.network.guidance`.

        Returns:
            float32 [B, 1, H, W], finite; the sigmoid of it is the subject's probability.

        Raises:
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        ...


def takes_guidance(engine: Engine) -> bool:
    """Whether the engine's network has a guidance channel; engines that do not say have none."""
    return bool(getattr(engine, "takes_guidance", False))


# Pixels of the largest input of which several run at once on a CPU: above, they would need too much
# memory and gain little.
CONCURRENT_PIXELS = 768 * 768
MOST_CONCURRENT = 8  # calls; with more cores each has several


def concurrent(engine: Engine, pixels: int) -> tuple[Engine, int]:
    """The engine for a long run of inputs of so many pixels, and its concurrency: calls at once.

    An engine that gains from it has a method `concurrent() -> (engine, concurrency)`; the others
    are used as they are, one call at a time.
    """
    make = getattr(engine, "concurrent", None)
    if make is None or pixels > CONCURRENT_PIXELS:
        return engine, 1
    pair: tuple[Engine, int] = make()
    return pair


# Of a process that is forked, only the forking thread lives on: what waits for the others of a
# thread pool waits for ever.
_methods: list[weakref.WeakMethod[Callable[[], None]]] = []


def call_in_forks(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from this one, while its object lives."""
    _methods[:] = [known for known in _methods if known() is not None]
    _methods.append(weakref.WeakMethod(method))


def never_delete(thing: object) -> None:
    """Keep an object, and what it refers to, for as long as the process lives.

    Its destructor would join threads that the fork has not got.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    for known in _methods:
        method = known()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
