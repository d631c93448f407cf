"""Find pictures that are the same, or nearly: by digests, perceptual hashes and thumbnails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.training.data.inspection import PerceptualHash

# Recoloured and recompressed copies of photos stay below and above; distinct photos of one kind
# (leaves on plain ground, cats, persons in a street) do not.
MOST_BITS = 10
LEAST_CORRELATION = 0.95

_BLOCK = 2**17  # pairs compared at a time; so many fit into a processor's cache

_BITS_OF_OCTET = np.array([octet.bit_count() for octet in range(256)], np.uint8)


@dataclass(frozen=True)
class NearDuplicate:
    """Two pictures by their numbers, the first of `hashes` and the second of `others`."""

    first: int
    second: int
    is_exact: bool


def duplicates_within(hashes: Sequence[PerceptualHash | None]) -> list[NearDuplicate]:
    """Pairs within one list; of pictures that are all alike, each is paired with the first."""
    found, paired = [], set()
    for pair in _compare(hashes, hashes):
        if pair.second not in paired:
            paired.add(pair.second)
            found.append(pair)
    return found


def duplicates_between(
    hashes: Sequence[PerceptualHash | None], others: Sequence[PerceptualHash | None]
) -> list[NearDuplicate]:
    """For each of `hashes`, the first of `others` that it equals, exactly or nearly."""
    best: dict[int, NearDuplicate] = {}
    for pair in _compare(hashes, others):
        known = best.get(pair.first)
        if known is None or (pair.is_exact and not known.is_exact):
            best[pair.first] = pair
    return [best[first] for first in sorted(best)]


def _compare(
    hashes: Sequence[PerceptualHash | None], others: Sequence[PerceptualHash | None]
) -> Iterator[NearDuplicate]:
    """All pairs that look alike, in order; of one list with itself, each pair once."""
    ours, theirs = _known(hashes), _known(others)
    mine, bits = (
        np.array([hashed.bits for _, hashed in known], np.uint64) for known in (ours, theirs)
    )
    is_same = hashes is others
    rows = max(1, _BLOCK // max(1, len(theirs)))
    for start in range(0, len(ours), rows):
        first = start if is_same else 0  # pairs before it have been seen
        near = _count_bits(mine[start : start + rows, None] ^ bits[None, first:]) <= MOST_BITS
        for i, j in zip(*np.nonzero(near), strict=True):
            (one_index, one), (other_index, other) = ours[start + i], theirs[first + j]
            if is_same and one_index >= other_index:
                continue
            is_exact = one.digest == other.digest
            alike = float(one.thumb.astype(np.float32) @ other.thumb.astype(np.float32))
            if is_exact or alike >= LEAST_CORRELATION:
                yield NearDuplicate(one_index, other_index, is_exact)


def _known(hashes: Sequence[PerceptualHash | None]) -> list[tuple[int, PerceptualHash]]:
    return [(index, hashed) for index, hashed in enumerate(hashes) if hashed is not None]


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.integer]:
    """Bits that are set in each value."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.asarray(np.bitwise_count(values))
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, 8)
    return np.asarray(_BITS_OF_OCTET[octets].sum(axis=-1))
