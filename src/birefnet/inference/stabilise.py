"""Steady mattes: each is weighed with those of the frames around it, which motion brings to it.

A network sees one frame at a time, so its mistakes come and go. For frame t, every frame s up to
`RADIUS` before and behind is brought to t by optical flow (Kroeger, Timofte, Dai and Van Gool,
"Fast Optical Flow using Dense Inverse Search", ECCV 2016), with its matte:

    b[s](x) = w[s](x) a[s](x + f[s](x)) + (1 - w[s](x)) a[t](x)
    w[s](x) = exp(-d[s](x)^2 / 2 SIGMA^2 - e[s](x)^2 / 2 DRIFT^2)

where d is how far the colours around x differ after the motion, and e how far the motion from t to
s and back misses x: what was hidden in s, or is not in the picture there, has no say. The result is
the mean of all five values without the largest and the smallest, so that a mistake of one frame
vanishes and noise is averaged. Nothing crosses a cut.

The motion is found in small pictures, the correction in middling ones; it is added to the matte at
full size, which keeps its own detail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.picture import Alpha, Pixels, PixelType

if TYPE_CHECKING:
    from birefnet.matte import Matte

RADIUS = 2  # frames on each side
SIGMA = 0.04  # of colour differences, in [0, 1]
DRIFT = 1.0  # [px] of the pictures that motion is found in
CUT = 0.5  # a cut lies where motion explains less than this share of the picture
_MOTION_SIDE = 320  # longer side of the pictures that motion is found in [px]
_MATTE_SIDE = 768  # ... that mattes are corrected in


def stabilise(mattes: Iterable[Matte]) -> Iterator[Matte]:
    """The mattes of successive frames, of one size and in their order, with less flicker.

    Each waits for `RADIUS` more.
    """
    window: deque[_Moment] = deque()
    ready = 0  # how many at the window's left have been given out
    for number, matte in enumerate(mattes):
        window.append(_Moment.of(number, matte))
        if len(window) - ready > RADIUS:
            yield _steady(window, ready)
            ready += 1
        while ready > RADIUS:
            window.popleft()
            ready -= 1
    while ready < len(window):
        yield _steady(window, ready)
        ready += 1


@dataclass(eq=False)
class _Moment:
    """A frame with small versions of itself.

    Attributes:
        number: its own, never used again.
        grey: h x w uint8, for the flow.
        colour: h x w x 3 uint8, blurred, to compare.
        alpha: float32 of middling size.
        flows, links: to other moments, by their numbers.
    """

    number: int
    matte: Matte
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    alpha: Alpha
    flows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    links: dict[int, _Link] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, matte: Matte) -> _Moment:
        small = _shrink(matte.picture.rgb8(), _MOTION_SIDE)
        return cls(
            number,
            matte,
            np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8),
            np.asarray(cv2.blur(small, (3, 3)), np.uint8),
            _shrink(matte.alpha, _MATTE_SIDE),
        )

    def flow(self, other: _Moment) -> NDArray[np.float32]:
        """How far each pixel is off in the other frame, h x w x 2."""
        flow = self.flows.get(other.number)
        if flow is None:
            make: Any = cv2.DISOpticalFlow.create
            search = make(cv2.DISOPTICAL_FLOW_PRESET_FAST)
            flow = search.calc(self.grey, other.grey, None)
            self.flows[other.number] = flow
        return flow

    def link(self, other: _Moment) -> _Link:
        """How the other frame is brought to this one."""
        link = self.links.get(other.number)
        if link is None:
            link = self.links[other.number] = _Link.between(self, other)
        return link


@dataclass(eq=False)
class _Link:
    """How far each pixel of a frame is off in another (x and y, small), and the trust in that."""

    flow: NDArray[np.float32]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, moment: _Moment, other: _Moment) -> _Link:
        flow = moment.flow(other)
        height, width = moment.grey.shape
        positions = flow + _grid(height, width)
        brought = _moved(other.colour, positions)
        difference = cv2.absdiff(moment.colour, brought).max(axis=2).astype(np.float32)
        difference = cv2.blur(difference, (5, 5)) / np.float32(255)
        missed = np.square(flow + _moved(other.flow(moment), positions)).sum(axis=2)
        weight = np.exp(
            np.square(difference) * np.float32(-0.5 / SIGMA**2)
            - missed * np.float32(0.5 / DRIFT**2)
        )
        inside = (
            (positions[..., 0] > -1)
            & (positions[..., 0] < width)
            & (positions[..., 1] > -1)
            & (positions[..., 1] < height)
        )
        return cls(flow, weight * inside)

    @property
    def is_cut(self) -> bool:
        return float(self.weight.mean()) < CUT


def _steady(window: deque[_Moment], index: int) -> Matte:
    moment = window[index]
    own = moment.alpha
    values = [own]
    for step in (-1, 1):
        here = index
        while 0 <= here + step < len(window) and abs(here + step - index) <= RADIUS:
            if window[here].link(window[here + step]).is_cut:
                break
            here += step
            values.append(_brought(moment, window[here]))
    if len(values) < 3:
        return moment.matte
    stack = np.stack(values)
    total = stack.sum(axis=0) - stack.max(axis=0) - stack.min(axis=0)
    change = total / np.float32(len(values) - 2) - own
    alpha = moment.matte.alpha
    if change.shape != alpha.shape:
        change = cv2.resize(change, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return replace(moment.matte, alpha=np.clip(alpha + change, 0, 1))


def _brought(moment: _Moment, other: _Moment) -> Alpha:
    """The other frame's matte at this one's time; this one's own where it cannot be trusted."""
    link = moment.link(other)
    height, width = moment.alpha.shape
    scale = np.array([width / moment.grey.shape[1], height / moment.grey.shape[0]], np.float32)
    flow = cv2.resize(link.flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale
    brought = _moved(other.alpha, flow + _grid(height, width))
    weight = cv2.resize(link.weight, (width, height), interpolation=cv2.INTER_LINEAR)
    result: Alpha = moment.alpha + weight * (brought - moment.alpha)
    return result


def _moved(pixels: Pixels, positions: NDArray[np.float32]) -> Pixels:
    second: Any = None  # map: both coordinates are in the first
    return cv2.remap(pixels, positions, second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """The position of each pixel, x and y."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.dstack([x, y])


def _shrink(pixels: NDArray[PixelType], side: int) -> NDArray[PixelType]:
    """At most `side` long, averaged."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), pixels.dtype)
