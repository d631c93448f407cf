"""Which picture is sample number n, and how large a batch is: pure functions of a seed.

An epoch is a permutation of a fixed multiset: set i occurs exactly `quotas[i]` times in it. Within
a set, pictures follow one permutation after another, across epochs, so that none is seen twice
before all have been seen once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.training.data.folders import DataError
from birefnet.training.data.settings import MULTIPLE, DataSettings

Size = tuple[int, int]
"""Height and width of a sample [px]."""
Key = tuple[int, Size]
"""Global sample number, and the size that it is wanted at."""

_EPOCH, _ROUND, _SIZE, _SAMPLE = range(4)  # what a stream of random numbers is for
_KEPT_PERMUTATIONS = 64


def sample_stream(seed: int, number: int) -> Generator:
    """The random numbers of one sample."""
    return np.random.default_rng((seed, _SAMPLE, number))


@dataclass(frozen=True)
class Part:
    """One set in the mixture: how many pictures it has, and how much of it an epoch takes.

    Attributes:
        length: pictures.
        times: how often an epoch shows each of them; not used with `share`.
        share: of the epoch's samples.
    """

    length: int
    times: float = 1.0
    share: float | None = None


class Order:
    """The order of samples of a run.

    Args:
        parts: the sets; a set without pictures has no sample.
        seed: of the run, at least 0.
        epoch_length: samples per epoch; 0 for the sum of the sets by their weights.

    Raises:
        DataError: no pictures, or shares of more than all.
    """

    def __init__(self, parts: Sequence[Part], seed: int, epoch_length: int = 0) -> None:
        self.parts, self.seed = tuple(parts), seed
        self.quotas = _quotas(self.parts, epoch_length)
        self.epoch_length = sum(self.quotas)
        self._starts = np.concatenate([[0], np.cumsum(self.quotas)])
        self._permutation = lru_cache(maxsize=_KEPT_PERMUTATIONS)(self._draw_permutation)

    def locate(self, number: int) -> tuple[int, int]:
        """Set and picture of sample `number`, counted from 0 over the whole run."""
        if number < 0:
            raise IndexError(f"sample {number} came; numbers count from 0")
        epoch, offset = divmod(number, self.epoch_length)
        slot = int(self._permutation(_EPOCH, epoch, self.epoch_length)[offset])
        part = int(np.searchsorted(self._starts, slot, side="right")) - 1
        position = epoch * self.quotas[part] + slot - int(self._starts[part])
        around, index = divmod(position, self.parts[part].length)
        stream = (part + 1) * 2**32 + around
        return part, int(self._permutation(_ROUND, stream, self.parts[part].length)[index])

    def _draw_permutation(self, purpose: int, stream: int, length: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, purpose, stream)).permutation(length)

    def __getstate__(self) -> dict[str, object]:
        return {"parts": self.parts, "seed": self.seed, "epoch_length": self.epoch_length}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _quotas(parts: Sequence[Part], epoch_length: int) -> list[int]:
    """Samples of each set per epoch: whole numbers, at least 1, with exactly the asked sum."""
    shares = [part.share or 0.0 for part in parts]
    sized = [0.0 if part.share else part.length * part.times for part in parts]
    if not any(part.length for part in parts):
        raise DataError("there are no pictures to train on; give --data PATH")
    if sum(shares) > 1 - 1e-9 and any(sized):
        raise DataError(
            f"the shares of the sets add up to {sum(shares):.0%}, which leaves nothing for the "
            "others; lower them"
        )
    if not any(sized):  # shares alone: relative to each other
        largest = sum(part.length for part in parts)
        ideal = [largest * share / sum(shares) for share in shares]
    else:
        total = sum(sized) / (1 - sum(shares))
        ideal = [size or total * share for size, share in zip(sized, shares, strict=True)]
    length = epoch_length or max(1, round(sum(ideal)))
    scale = length / sum(ideal)
    exact = [value * scale for value in ideal]
    quotas = [max(int(value), int(value > 0)) for value in exact]
    # What rounding down has left goes to the largest remainders.
    remainders = sorted(range(len(parts)), key=lambda i: quotas[i] - exact[i])
    for i in remainders[: max(0, length - sum(quotas))]:
        quotas[i] += 1
    return quotas


def size_at(settings: DataSettings, seed: int, step: int) -> Size:
    """Height and width of batch `step` [px], multiples of 32; all processes draw the same."""
    stream = np.random.default_rng((seed, _SIZE, step))

    def side(fixed: int, bounds: tuple[int, int] | None) -> int:
        if bounds is None:
            return fixed
        low, high = bounds[0] // MULTIPLE, bounds[1] // MULTIPLE
        return int(stream.integers(low, high + 1)) * MULTIPLE

    width = side(settings.width, settings.dynamic_width)
    return side(settings.height, settings.dynamic_height), width
