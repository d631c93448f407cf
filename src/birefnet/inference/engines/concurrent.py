"""A torch network for concurrent calls, each of which computes on its share of the cores.

Two pictures side by side on a core each leave sooner than one after the other on two cores, since
the many small operations of a network share badly.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from birefnet.inference.engines.base import Engine, takes_guidance

_turn = threading.Lock()
_here = threading.local()


class ConcurrentEngine:
    """The same network; a thread that calls it keeps to so many cores from then on.

    Args:
        engine: a `TorchEngine` of a CPU.
        cores: for each calling thread.
    """

    def __init__(self, engine: Engine, cores: int) -> None:
        self._engine = engine
        self._cores = cores
        self.name = engine.name
        self.batch_size = engine.batch_size
        self.takes_guidance = takes_guidance(engine)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `TorchEngine.infer`."""
        if getattr(_here, "cores", None) != self._cores:
            _keep_to(self._cores)
        return self._engine.infer(batch)


def _keep_to(cores: int) -> None:
    """Limit the threads that torch uses for the calling thread, and for no other."""
    with _turn:
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        # That now holds for threads to come, too; a thread of its own gives them theirs back and
        # leaves this one as it is.
        others = threading.Thread(target=torch.set_num_threads, args=(before,))
        others.start()
        others.join()
    _here.cores = cores
