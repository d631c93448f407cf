"""How unsteady mattes are, against known ones.

dtSSD (Erofeev, Gitman, Vatolin, Fedorov and Wang, "Perceptually Motivated Benchmark for Video
Matting", BMVC 2015, section 3) compares how alpha changes from frame to frame: a still mistake
costs nothing, a flickering one does. Here it is per pixel, so that sizes and lengths compare:

    dtSSD = mean over t of sqrt(mean over pixels of ((a[t] - a[t-1]) - (A[t] - A[t-1]))^2)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.picture import Pixels
from birefnet.video.errors import VideoError


class TemporalError:
    """Adds up the errors of a film's mattes, frame by frame; lower is better."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._absolute: list[float] = []
        self._temporal: list[float] = []

    def add(self, alpha: Pixels, truth: Pixels) -> None:
        """The next frame: both H x W, float in [0, 1]."""
        if alpha.shape != truth.shape:
            raise VideoError(f"got a matte of {alpha.shape} for a truth of {truth.shape}")
        error = alpha.astype(np.float32) - truth
        self._absolute.append(float(np.abs(error).mean(dtype=np.float64)))
        if self._before is not None:
            # (a[t] - a[t-1]) - (A[t] - A[t-1]) is how the error changes.
            change = error - self._before
            self._temporal.append(math.sqrt(float(np.square(change).mean(dtype=np.float64))))
        self._before = error

    @property
    def mae(self) -> float:
        """Mean absolute error of single frames, 0 to 1."""
        return sum(self._absolute) / max(1, len(self._absolute))

    @property
    def dtssd(self) -> float:
        """See above; 0 with fewer than two frames."""
        return sum(self._temporal) / max(1, len(self._temporal))
