"""Engines in a process that was forked from the one that made them: only the forking thread lives
on, so what waits for the others of a thread pool waits for ever."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any

_methods: list[weakref.WeakMethod[Callable[[], None]]] = []


def call_in_forks(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from this one, while its object lives."""
    _methods[:] = [known for known in _methods if known() is not None]
    _methods.append(weakref.WeakMethod(method))


def never_delete(thing: Any) -> None:
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
