"""Time of foreground estimation against the formula written down plainly in float32.

    python benchmarks/foreground.py [--size 4000x3000] [--rounds 5]

Prints milliseconds (the best of some rounds), the ratio to the plain version, and the largest
difference from the exact result in a cut-out, in levels of 255, for three mattes: `blob` (a firm
edge), `hair` (a tenth of the picture is soft) and `worst` (all of it is).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.foreground import default_radii, estimate_foreground


def plain(image: NDArray, alpha: NDArray, wide: int, narrow: int) -> NDArray:
    """Two-pass blur fusion, straight from the formula."""

    def mean(x: NDArray, size: int) -> NDArray:
        return cv2.blur(x, (size, size), borderType=cv2.BORDER_REFLECT_101)

    image = image / np.float32(255)
    a = alpha[..., None]
    foreground = background = image
    for size in (wide, narrow):
        mean_a = mean(alpha, size)[..., None]
        mean_f = mean(foreground * a, size) / (mean_a + 1e-5)
        mean_b = mean(background * (1 - a), size) / (1 - mean_a + 1e-5)
        foreground = np.clip(mean_f + a * (image - a * mean_f - (1 - a) * mean_b), 0, 1)
        background = mean_b
    return foreground


def mattes(height: int, width: int) -> dict[str, NDArray]:
    """Mattes of 1024 x 1024, enlarged as a network's are, with its noise near 0 and 1."""
    generator = np.random.default_rng(0)
    blob = np.zeros((1024, 1024), np.float32)
    cv2.circle(blob, (512, 560), 300, 1, -1, cv2.LINE_AA)
    hair = blob.copy()
    for angle in generator.uniform(0, 2 * np.pi, 300):
        reach = generator.uniform(310, 430)
        tip = (int(512 + reach * np.cos(angle)), int(560 + reach * np.sin(angle)))
        cv2.line(hair, (512, 560), tip, float(generator.uniform(0.3, 1)), 1, cv2.LINE_AA)
    cv2.circle(hair, (512, 560), 280, 1, -1)
    worst = generator.uniform(0.1, 0.9, (1024, 1024)).astype(np.float32)
    result = {}
    for name, matte in (("blob", blob), ("hair", hair), ("worst", worst)):
        soft = cv2.GaussianBlur(matte, (0, 0), 1)
        soft = soft * 0.999 + 1e-4 * generator.random(soft.shape, np.float32)
        result[name] = cv2.resize(soft, (width, height)).astype(np.float32)
    return result


def best(call: Callable[[], object], rounds: int) -> float:
    """Shortest duration [ms]."""
    durations = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return 1000 * min(durations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    radii = default_radii(height, width)
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (height // 50, width // 50, 3), np.uint8)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    print(f"{width} x {height}, windows {radii[0]} and {radii[1]}, {cv2.getNumThreads()} threads")
    print(f"{'matte':8}{'plain':>10}{'exact':>10}{'fast':>10}{'uint8':>10}{'ratio':>8}{'error':>8}")
    for name, alpha in mattes(height, width).items():
        fast = estimate_foreground(image, alpha)
        exact = estimate_foreground(image, alpha, exact=True)
        error = 255 * float((np.abs(fast - exact) * alpha[..., None]).max())
        times = [
            best(lambda a=alpha: plain(image, a, *radii), 2),
            best(lambda a=alpha: estimate_foreground(image, a, exact=True), 2),
            best(lambda a=alpha: estimate_foreground(image, a), options.rounds),
            best(lambda a=alpha: estimate_foreground(image, a, dtype=np.uint8), options.rounds),
        ]
        row = "".join(f"{duration:7.0f} ms" for duration in times)
        print(f"{name:8}{row}{times[0] / times[3]:7.1f}x{error:8.2f}")


if __name__ == "__main__":
    main()
