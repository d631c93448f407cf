"""Modules that numba compiles: where nothing can be kept, and not without a word."""

from __future__ import annotations

import atexit
import importlib
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

SILENCE = 2.0  # seconds that may pass without a word


def import_compiled(name: str) -> ModuleType:
    """Import a module whose functions numba keeps on disk for the next time.

    Where it finds no folder that it can write (NUMBA_CACHE_DIR, the package's, the user's), they
    are kept in a temporary one until the process ends, and a warning says so.

    Raises:
        ImportError: the module, or numba, is not there.
    """
    with announced(name):
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
        import numba

        folder = tempfile.mkdtemp(prefix="birefnet-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        vars(numba.config)["CACHE_DIR"] = folder  # as NUMBA_CACHE_DIR would have set it
        logging.getLogger("birefnet").warning(
            f"what numba compiles for {name} cannot be kept, so each start compiles it anew; set "
            "NUMBA_CACHE_DIR to a folder that can be written"
        )
        return importlib.import_module(name)


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Say on a terminal that something is being compiled, if it takes more than a moment."""
    timer = threading.Timer(SILENCE, _say, [name])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(name: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"compiling {name} for this machine, which takes about a minute\n")
