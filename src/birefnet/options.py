"""What can be asked of a background removal, by every way in: command, server, page, nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.guidance import Guidance, parse_box, parse_point
from birefnet.imaging.io import decode
from birefnet.imaging.masks import alpha_is_mask, grey_levels
from birefnet.matte import Kind, Matte, check_kind, read_background

if TYPE_CHECKING:
    from birefnet.imaging.io import Source
    from birefnet.predictor import Input, Predictor


@dataclass(frozen=True)
class Options:
    """How to cut out a picture, and what to make of it; names and meanings as in `birefnet remove`.

    Attributes:
        kind: what comes out, see `Matte.render`.
        background: behind the subject; a string is a colour or a path until `prepared`.
        resolution, batch_size: see `Predictor.predict`.
        format: of the file, such as png; `None` leaves it to the caller.
        quality: of jpeg, webp and avif, 1 to 100.
        threshold, mask_blur, mask_offset: see `Matte.adjusted`.
        refine: see `Matte.foreground`.
        keep_profile: write the picture's ICC profile along (with pixels as stored).
        boxes, points, other_points: where the meant object is and is not, as text.
        guide: a coarse mask; a path, bytes or array until `prepared`.
        passes: 2 redoes edges at the picture's own resolution.
    """

    kind: str = "cutout"
    background: Any = None
    resolution: int | tuple[int, int] | Literal["native"] | None = None
    batch_size: int | None = None
    format: str | None = None
    quality: int | None = None
    threshold: float | None = None
    mask_blur: float = 0
    mask_offset: float = 0
    refine: bool = True
    keep_profile: bool = False
    boxes: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    other_points: tuple[str, ...] = ()
    guide: Any = None
    passes: int = 1

    @property
    def guidance(self) -> Guidance | None:
        """Which object is meant, if that is said.

        Raises:
            BiRefNetError: it cannot be understood.
        """
        points = tuple(parse_point(text) for text in self.points)
        others = tuple(parse_point(text, is_object=False) for text in self.other_points)
        if others and not points:
            raise BiRefNetError("--not-point says what is not meant; give --point too")
        boxes = tuple(parse_box(text) for text in self.boxes)
        return Guidance(boxes, points + others, self.guide) or None

    @property
    def is_plain(self) -> bool:
        """Whether the network sees the picture once, so that several can share a batch."""
        return self.guidance is None and self.passes == 1

    def prepared(self) -> Options:
        """The same, checked, with background and coarse mask read.

        Raises:
            BiRefNetError: one sentence on the option that makes no sense.
        """
        check_kind(self.kind, has_background=self.background is not None)
        prepared = self
        if self.background is not None:
            prepared = replace(prepared, background=read_background(self.background))
        if self.guide is not None and not isinstance(self.guide, np.ndarray):
            prepared = replace(prepared, guide=_read_mask(self.guide))
        _ = prepared.guidance
        return prepared

    def predict(self, predictor: Predictor, source: Input) -> Matte:
        """The matte of one picture, guided and refined as asked, before `finish`.

        Raises:
            BiRefNetError: see `Predictor.predict` and `Predictor.predict_guided`.
        """
        if self.is_plain:
            return predictor.predict(source, resolution=self.resolution)
        return predictor.predict_guided(
            source, self.guidance, passes=self.passes, resolution=self.resolution
        )

    def finish(self, matte: Matte) -> Matte:
        """The matte with its edge corrected and, where they will be seen, its colours refined."""
        matte = matte.adjusted(
            offset=self.mask_offset, blur=self.mask_blur, threshold=self.threshold
        )
        if self.kind not in ("mask", "overlay"):
            matte.foreground(refine=self.refine)  # the matte keeps it
        return matte

    def render(self, matte: Matte) -> NDArray[Any]:
        return matte.render(cast(Kind, self.kind), background=self.background, refine=self.refine)

    def encode(self, matte: Matte, format: str) -> bytes:
        return matte.encode(
            format,
            cast(Kind, self.kind),
            background=self.background,
            refine=self.refine,
            quality=self.quality,
            icc_profile=matte.picture.icc_profile if self.keep_profile else None,
        )


def _read_mask(source: Source) -> NDArray[Any]:
    picture = decode(source)
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        return picture.alpha
    return grey_levels(picture.rgb8())
