"""Human correction efforts (Qin et al., DIS5K, ECCV 2022): how many clicks would mend the mask.

The rules are those of the program published with DIS5K (``hce_metric_main.py``), with relaxation
gamma = 5 and polygon tolerance epsilon = 2; the counts are equal to its counts.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation import bits
from birefnet.evaluation.pair import Pair, metric
from birefnet.evaluation.skeleton import skeletonize

RELAX = 5
"""gamma: errors closer than this many pixels to right ones are forgiven."""

TOLERANCE = 2.0
"""epsilon: how far a correcting polygon may stray from the boundary, in pixels."""


class HceParts(NamedTuple):
    """Clicks by kind: polygon points along mistaken boundaries, and whole regions."""

    false_positive_points: float
    false_positive_regions: float
    false_negative_points: float
    false_negative_regions: float


@metric("HCE", higher_is_better=False)
def hce(pair: Pair) -> float:
    """Human correction efforts: the number of clicks, the sum of ``hce_parts``."""
    return float(sum(hce_parts.of(pair)))


@metric("HCE parts", higher_is_better=False)
def hce_parts(pair: Pair) -> HceParts:
    """The four counts that HCE sums: false-positive points, regions, false-negative ones.

    False regions, without what lies within gamma of right pixels, are outlined; the stretches of
    outline that must be redrawn cost one click per polygon point, regions that touch nothing else
    one click each. Parts of the ground truth's skeleton that are missed always count.
    """
    inside = bits.valid(pair.height, pair.width)
    truth, decision = bits.pack(pair.mask), bits.pack(pair.decision)
    both = truth & decision
    only_prediction, only_truth = decision & ~truth, truth & ~decision
    core = bits.erode_cross(truth | decision, inside, RELAX)

    false_positives = _relaxed(only_prediction, core, inside & ~truth)
    false_negatives = _relaxed(only_truth, core, inside & ~decision)
    if only_truth.any():
        # Thin structures vanish in the eroded union, but to miss them always counts.
        false_negatives |= bits.pack(skeletonize(pair.mask)) & ~decision

    neither = inside & ~(both | false_positives | false_negatives)
    positive = _count_clicks(false_positives, both | false_negatives, inside, pair.width)
    negative = _count_clicks(false_negatives, neither, inside, pair.width)
    return HceParts(*positive, *negative)


def _relaxed(errors: bits.Words, core: bits.Words, allowed: bits.Words) -> bits.Words:
    """Keep the errors within the core, grown back by gamma steps through what is allowed."""
    grown = errors & core
    for _ in range(RELAX):
        grown = bits.dilate_cross(grown, allowed)
    return grown & errors


def _count_clicks(
    errors: bits.Words, beside: bits.Words, inside: bits.Words, width: int
) -> tuple[float, float]:
    """Count polygon points and untouched regions of the error regions.

    An outline has to be redrawn where it lies in ``beside`` or next to it.
    """
    regions = bits.unpack(errors, width)
    contours, hierarchy = cv2.findContours(regions, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if not contours or regions.all():
        # The program finds no region where the errors fill the whole picture.
        return 0.0, 0.0
    redrawn = bits.unpack(bits.dilate_cross(beside, inside), width).ravel()
    points = np.concatenate(contours)[:, 0].astype(np.int32)
    owner = np.repeat(np.arange(len(contours)), [len(contour) for contour in contours])
    index = points[:, 1].astype(np.int64) * width + points[:, 0]

    # A pixel counts where an outline first meets it: written backwards, the first visit stays.
    order = np.arange(len(index), dtype=np.int32)
    first = np.empty(regions.size, dtype=np.int32)
    first[index[::-1]] = order[::-1]
    drawn = redrawn[index].astype(bool) & (first[index] == order)

    outline = _outer_contours(np.asarray(hierarchy[0, :, 3], dtype=np.intp))
    touched = np.zeros(len(contours), dtype=bool)
    touched[outline[owner[drawn]]] = True
    untouched = np.count_nonzero(~touched[np.unique(outline)])
    return float(_polygon_points(points, owner, drawn)), float(untouched)


def _outer_contours(parents: NDArray[np.intp]) -> NDArray[np.intp]:
    """The outer contour of the region that each contour bounds, itself or its parent.

    In the tree of contours, outer ones stand at even depth and the holes in a region at odd.
    """
    depth = np.zeros(len(parents), dtype=np.int64)
    above = parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return np.where(depth % 2 == 0, np.arange(len(parents)), parents)


def _polygon_points(
    points: NDArray[np.int32], owner: NDArray[np.intp], drawn: NDArray[np.bool_]
) -> int:
    """Count the points of the polygons along the drawn runs of the contours.

    Args:
        points: x, y of all contours one after the other, N x 2.
        owner: the contour of each point, N, ascending.
        drawn: which points have to be redrawn, N.
    """
    if not drawn.any():
        return 0
    begins, ends = drawn.copy(), drawn.copy()
    same_contour = owner[1:] == owner[:-1]
    begins[1:] &= ~(drawn[:-1] & same_contour)
    ends[:-1] &= ~(drawn[1:] & same_contour)
    starts, stops = np.flatnonzero(begins), np.flatnonzero(ends) + 1

    # Where the first and last run of a contour meet, the program puts the first, turned about,
    # behind the last.
    owners = owner[starts]
    is_first = np.append(True, owners[1:] != owners[:-1])
    firsts = np.flatnonzero(is_first)
    lasts = np.append(firsts[1:], len(starts)) - 1
    gaps = np.abs(points[starts[firsts]] - points[stops[lasts] - 1]).max(axis=1)
    meets = (lasts > firsts) & (gaps == 1)
    joined = np.zeros(len(starts), dtype=bool)
    joined[firsts[meets]] = joined[lasts[meets]] = True

    lengths = (stops - starts)[~joined]
    total = int(lengths[lengths <= 2].sum())
    for start, stop in zip(starts[~joined], stops[~joined], strict=True):
        if stop - start > 2:
            total += len(cv2.approxPolyDP(points[start:stop], TOLERANCE, False))
    for first, last in zip(firsts[meets], lasts[meets], strict=True):
        run = np.concatenate(
            [points[starts[last] : stops[last]], points[starts[first] : stops[first]][::-1]]
        )
        total += len(cv2.approxPolyDP(run, TOLERANCE, False))
    return total
