"""How far an exported file's output is from the network's: measured, judged, reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from birefnet.inference.engines.base import Engine, Precision

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Limits:
    """The largest differences that pass.

    Attributes:
        logits: largest difference of a logit, as a part of the largest logit (or of 1 if larger).
        matte: largest difference of a pixel of the matte.
        matte_mean: mean difference of the matte.
    """

    logits: float
    matte: float
    matte_mean: float


# fp32 differs by the order of its sums; half precision and eight bits round every value: an edge
# may then move by a fraction of a pixel, which is a large difference of few pixels.
LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(logits=1e-4, matte=1e-3, matte_mean=1e-5),
    "fp16": Limits(logits=0.05, matte=0.1, matte_mean=2e-3),
    "int8": Limits(logits=float("inf"), matte=1.0, matte_mean=0.02),
}


@dataclass(frozen=True)
class Case:
    """The differences of one batch of inputs, or of one whole picture.

    Attributes:
        width, height, batch: of the input, or of the picture.
        logits, logits_mean: largest and mean difference of the logits; `None` of pictures, and
            where the file gives mattes.
        matte, matte_mean: largest and mean difference of the mattes.
        scale: the largest logit, 0 of pictures.
        what: `input`: a normalised batch through the network alone; `picture`: through preparation,
            all views, network and resize.
    """

    width: int
    height: int
    batch: int
    logits: float | None
    logits_mean: float | None
    matte: float
    matte_mean: float
    scale: float
    what: Literal["input", "picture"] = "input"

    def passes(self, limits: Limits) -> bool:
        """Whether every difference is within `limits` (a NaN is not)."""
        in_logits = self.logits is None or self.logits <= limits.logits * max(1.0, self.scale)
        return in_logits and self.matte <= limits.matte and self.matte_mean <= limits.matte_mean


@dataclass(frozen=True)
class Parity:
    """All cases of one export."""

    engine: str
    limits: Limits
    cases: list[Case]

    @property
    def passed(self) -> bool:
        """Whether every case is within the limits."""
        return all(case.passes(self.limits) for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        limits = {k: v if np.isfinite(v) else None for k, v in asdict(self.limits).items()}
        cases = [{**asdict(case), "passed": case.passes(self.limits)} for case in self.cases]
        return {"engine": self.engine, "passed": self.passed, "limits": limits, "cases": cases}


def compare(
    reference: Run,
    engine: Engine,
    batches: Iterable[NDArray[np.float32]],
    precision: Precision,
    *,
    gives_logits: bool = True,
) -> Parity:
    """Run both on every batch.

    Args:
        reference: logits of the network itself, in fp32.
        engine: runs the exported file.
        batches: normalised, (B, 3, H, W).
        precision: of the file, which says what may differ.
        gives_logits: whether the file gives logits; otherwise only mattes are compared.
    """
    cases = []
    for batch in batches:
        expected = reference(batch).astype(np.float64)
        actual = engine.infer(batch).astype(np.float64)
        apart = np.abs(expected - actual)
        mattes_apart = np.abs(_sigmoid(expected) - _sigmoid(actual))
        cases.append(
            Case(
                width=batch.shape[3],
                height=batch.shape[2],
                batch=batch.shape[0],
                logits=float(apart.max()) if gives_logits else None,
                logits_mean=float(apart.mean()) if gives_logits else None,
                matte=float(mattes_apart.max()),
                matte_mean=float(mattes_apart.mean()),
                scale=float(np.abs(expected).max()),
            )
        )
    return Parity(engine.name, LIMITS[precision], cases)


def compare_mattes(
    expected: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    actual: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    pictures: Iterable[NDArray[np.uint8]],
) -> list[Case]:
    """A case for each picture, uint8 H x W x 3, of two ways to its matte, float32 H x W."""
    cases = []
    for picture in pictures:
        apart = np.abs(expected(picture).astype(np.float64) - actual(picture))
        height, width = picture.shape[:2]
        largest, mean = float(apart.max()), float(apart.mean())
        cases.append(Case(width, height, 1, None, None, largest, mean, 0.0, "picture"))
    return cases


def synthetic_batch(
    count: int,
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    guided: bool = False,
) -> NDArray[np.float32]:
    """Normalised pictures (count, 3, height, width) of textured discs before soft gradients.

    Close enough to photographs to exercise a network where none are at hand; the same every time.
    With `guided`, a fourth channel points at each disc.
    """
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height, x / width
    pictures, guides = [], []
    for _ in range(count):
        weights = random.uniform(-0.4, 0.4, (3, 2)).astype(np.float32)
        ground = 0.4 + weights[:, :1, None] * y + weights[:, 1:, None] * x
        centre, radius = random.uniform(0.35, 0.65, 2), random.uniform(0.15, 0.3)
        distance = np.hypot(y - centre[0], x - centre[1])
        inside = 1 / (1 + np.exp((distance - radius) * 60))
        guides.append(inside[None] - (distance > 0.4))
        colour = random.uniform(0.1, 0.9, (3, 1, 1)) + 0.1 * np.sin(40 * (x + y))
        picture = ground * (1 - inside) + colour * inside
        picture += random.normal(0, 0.02, picture.shape)
        # In steps of 1/255, as in files.
        pictures.append(np.clip(picture * 255, 0, 255).round() / 255)
    values = (np.stack(pictures) - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    if guided:
        values = np.concatenate([values, np.stack(guides)], axis=1)
    return values.astype(np.float32)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (np.tanh(0.5 * logits) + 1)
