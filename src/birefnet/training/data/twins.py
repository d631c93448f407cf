"""Find pictures that are the same, or nearly: by digests, perceptual hashes and thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.training.data.inspection import Look

# Recoloured and recompressed copies of photos stay below and above; distinct photos of one kind
# (leaves on plain ground, cats, persons in a street) do not.
MOST_BITS = 10
LEAST_CORRELATION = 0.95

_ROWS = 256  # pictures compared with all others at a time


@dataclass(frozen=True)
class Twins:
    """Two pictures by their numbers, the first of `looks` and the second of `others`."""

    first: int
    second: int
    is_exact: bool


def twins_within(looks: Sequence[Look | None]) -> list[Twins]:
    """Pairs within one list; of pictures that are all alike, each is paired with the first."""
    found, paired = [], set()
    for twins in _compare(looks, looks):
        if twins.first < twins.second and twins.second not in paired:
            paired.add(twins.second)
            found.append(twins)
    return found


def twins_between(looks: Sequence[Look | None], others: Sequence[Look | None]) -> list[Twins]:
    """For each of `looks`, the first of `others` that it equals, exactly or nearly."""
    best: dict[int, Twins] = {}
    for twins in _compare(looks, others):
        known = best.get(twins.first)
        if known is None or (twins.is_exact and not known.is_exact):
            best[twins.first] = twins
    return [best[first] for first in sorted(best)]


def _compare(looks: Sequence[Look | None], others: Sequence[Look | None]) -> list[Twins]:
    """All pairs that look alike, in order."""
    ours = [i for i, look in enumerate(looks) if look is not None]
    theirs = [i for i, look in enumerate(others) if look is not None]
    if not ours or not theirs:
        return []
    left, right = [looks[i] for i in ours], [others[i] for i in theirs]
    bits = np.array([look.bits for look in right if look], np.uint64)
    found = []
    for start in range(0, len(ours), _ROWS):
        rows = left[start : start + _ROWS]
        mine = np.array([look.bits for look in rows if look], np.uint64)
        near = _count_bits(mine[:, None] ^ bits[None]) <= MOST_BITS
        for i, j in zip(*np.nonzero(near), strict=True):
            one, other = rows[i], right[j]
            assert one is not None
            assert other is not None
            first, second = ours[start + i], theirs[j]
            if looks is others and first == second:
                continue
            is_exact = one.digest == other.digest
            alike = float(one.thumb.astype(np.float32) @ other.thumb.astype(np.float32))
            if is_exact or alike >= LEAST_CORRELATION:
                found.append(Twins(first, second, is_exact))
    return found


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits that are set in each value (counted in parallel, as in Hacker's Delight, 5-1)."""
    one, two, four = (
        np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F)
    )
    values = values - ((values >> np.uint64(1)) & one)
    values = (values & two) + ((values >> np.uint64(2)) & two)
    values = (values + (values >> np.uint64(4))) & four
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)
