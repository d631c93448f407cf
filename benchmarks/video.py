"""Steadiness and speed of `birefnet video` on films that are made here, with known mattes.

    python benchmarks/video.py [--cutouts FOLDER --backgrounds FOLDER] [--model nano] [--films 4]

A film is a cut-out (RGBA picture) that moves, turns and grows over a background that moves, too; in
its middle it is cut to another background, and every frame has noise as of a camera (a standard
deviation of 5 levels). Without folders, drawn shapes and patterns are used.

Mattes come from the model, and from the truth spoilt with holes, islands, breathing edges and noise
anew in every frame. Printed are dtSSD (see `birefnet.video.temporal`), the mean absolute error of
single frames, both before and after `--stabilise` with their ratio, and the time of that per frame;
then the speed of whole commands, from file to file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.io import decode
from birefnet.imaging.picture import Picture, to_float
from birefnet.inference.stabilise import stabilise
from birefnet.matte import Matte
from birefnet.video.temporal import TemporalError

NOISE = 5  # levels of 255
Pixels = NDArray[Any]
Film = list[tuple[Pixels, Pixels]]
"""Frames: RGB uint8 and the true alpha, float32."""


def drawn_cutout(seed: int, side: int = 256) -> Pixels:
    """A star-like blob with a pattern and a soft edge, RGBA uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    lobes = int(generator.integers(3, 7))
    edge = 0.65 + 0.2 * np.sin(lobes * angle + generator.uniform(0, 6))
    alpha = np.clip((edge - radius) * side / 8 + 0.5, 0, 1)
    return np.dstack([pattern(generator, side, side), np.uint8(np.rint(255 * alpha))])


def pattern(generator: np.random.Generator, height: int, width: int) -> Pixels:
    """Smooth random colours with some detail, RGB uint8."""
    layers = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((6, 0.6), (24, 0.3), (90, 0.1)):
        noise = generator.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
        layers += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip(layers, 0, 255))


def make_film(
    cutout: Pixels, grounds: list[Pixels], *, frames: int, height: int, width: int, seed: int
) -> Film:
    """See the module; one ground for each scene."""
    generator = np.random.default_rng(seed)
    speed, turn = generator.uniform(-1.5, 1.5, 2), generator.uniform(-1, 1)
    grow = generator.uniform(-0.002, 0.004)
    pan = generator.uniform(-0.8, 0.8, 2)
    side = max(cutout.shape[:2])
    film = []
    for number in range(frames):
        ground = grounds[number * len(grounds) // frames]
        scale = max(height / ground.shape[0], width / ground.shape[1]) * 1.25
        shift = pan * number
        matrix = np.array(
            [
                [scale, 0, shift[0] - 0.1 * width],
                [0, scale, shift[1] - 0.1 * height],
            ]
        )
        behind = cv2.warpAffine(
            ground, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        size = 0.75 * height / side * (1 + grow * number)
        matrix = cv2.getRotationMatrix2D(
            (cutout.shape[1] / 2, cutout.shape[0] / 2), turn * number, size
        )
        matrix[:, 2] += (
            width / 2 + speed[0] * (number - frames / 2) - cutout.shape[1] / 2,
            height / 2 + speed[1] * (number - frames / 2) - cutout.shape[0] / 2,
        )
        alpha = to_float(cutout[..., 3])
        premultiplied = cutout[..., :3] * alpha[..., None]
        moved = cv2.warpAffine(
            np.dstack([premultiplied, alpha]).astype(np.float32), matrix, (width, height)
        )
        alpha = np.clip(moved[..., 3], 0, 1)
        mixed = moved[..., :3] + (1 - alpha[..., None]) * behind
        mixed += generator.normal(0, NOISE, mixed.shape)
        film.append((np.uint8(np.clip(np.rint(mixed), 0, 255)), alpha))
    return film


def flickering(film: Film, seed: int = 0) -> Iterator[Pixels]:
    """The true mattes spoilt as networks do it: holes and islands that come and go, edges that
    breathe, and noise; anew in every frame."""
    generator = np.random.default_rng(seed)
    for _, alpha in film:
        spoilt = alpha.copy()
        for value in (0.0, 0.0, 1.0):
            centre = generator.integers((0, 0), alpha.shape[::-1])
            radius = int(generator.integers(5, max(6, alpha.shape[0] // 8)))
            shade = np.zeros_like(alpha)
            cv2.circle(
                shade, [int(c) for c in centre], radius, float(generator.uniform(0.3, 0.9)), -1
            )
            shade = cv2.GaussianBlur(shade, (0, 0), 2)
            spoilt += shade * (value - spoilt)
        breath = generator.normal(0, 1)
        kernel = np.ones((3, 3), np.uint8)
        other = cv2.dilate(spoilt, kernel) if breath > 0 else cv2.erode(spoilt, kernel)
        spoilt += min(1, abs(breath)) * (other - spoilt)
        noise = cv2.GaussianBlur(generator.normal(0, 1, alpha.shape).astype(np.float32), (0, 0), 4)
        yield np.clip(spoilt + 0.5 * noise, 0, 1).astype(np.float32)


def mattes_of(film: Film, alphas: Iterator[Pixels] | list[Pixels]) -> Iterator[Matte]:
    for (pixels, _), alpha in zip(film, alphas, strict=True):
        yield Matte(alpha, Picture(pixels))


def errors(film: Film, alphas: list[Pixels]) -> TemporalError:
    total = TemporalError()
    for (_, truth), alpha in zip(film, alphas, strict=True):
        total.add(alpha, truth)
    return total


def compare(name: str, film: Film, alphas: list[Pixels]) -> tuple[float, float]:
    """Print a row; gives the ratios of dtSSD and of the error."""
    before = errors(film, alphas)
    start = time.perf_counter()
    after = errors(film, [matte.alpha for matte in stabilise(mattes_of(film, alphas))])
    each = 1000 * (time.perf_counter() - start) / len(film)
    ratios = after.dtssd / before.dtssd, after.mae / before.mae
    print(
        f"{name:28}{before.dtssd:9.4f}{after.dtssd:9.4f}{ratios[0]:8.2f}"
        f"{before.mae:10.4f}{after.mae:9.4f}{ratios[1]:8.2f}{each:9.1f} ms",
        flush=True,
    )
    return ratios


def films(options: argparse.Namespace) -> Iterator[tuple[str, Film]]:
    """So many films of drawn things, or of pictures from the folders."""
    generator = np.random.default_rng(options.seed)
    size = {"frames": options.frames, "height": options.height, "width": options.width}
    if not options.cutouts:
        for seed in range(options.films):
            grounds = [pattern(generator, 300, 500) for _ in range(2)]
            yield f"drawn {seed}", make_film(drawn_cutout(seed), grounds, seed=seed, **size)
        return
    cutouts = sorted(Path(options.cutouts).glob("*"))
    backgrounds = sorted(Path(options.backgrounds).glob("*"))
    for seed, place in enumerate(generator.choice(len(cutouts), options.films, replace=False)):
        picture = decode(cutouts[place])
        alpha = np.ones(picture.pixels.shape[:2]) if picture.alpha is None else picture.alpha
        cutout = np.dstack([picture.rgb8(), np.uint8(np.rint(255 * alpha))])
        grounds = [
            decode(backgrounds[other]).rgb8() for other in generator.choice(len(backgrounds), 2)
        ]
        yield cutouts[place].stem[:26], make_film(cutout, grounds, seed=seed, **size)


def measure_speed(film: Film, predictor: Any) -> None:
    """Frames a second from file to file, and of the network alone."""
    from birefnet.video import process_video
    from birefnet.video.colour import BT601, ColourSpace
    from birefnet.video.encode import MovieWriter, OutputFormat
    from birefnet.video.formats import FORMATS, encoder_options

    predictor.predict(film[0][0])  # warm
    start = time.perf_counter()
    for _ in predictor.predict(pixels for pixels, _ in film):
        pass
    bare = len(film) / (time.perf_counter() - start)
    print(f"{'network alone, arrays':40}{bare:7.1f} frames a second")
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "film.mp4"
        format, codec = FORMATS["mp4"], FORMATS["mp4"].codec(alpha=False)
        output_format = OutputFormat(
            Fraction(1, 25), Fraction(1, 25), Fraction(25), ColourSpace(BT601)
        )
        options = encoder_options(codec, "high", "fast")
        writer = MovieWriter(source, format, codec, options, output_format)
        for number, (pixels, _) in enumerate(film):
            writer.write(pixels, number)
        writer.close(len(film))
        for output, options in (
            ("a.mp4", {"kind": "green"}),
            ("a.mp4", {"kind": "green", "stabilise": True}),
            ("a.webm", {}),
            ("a.webm", {"preset": "fast"}),
            ("a.mov", {}),
        ):
            start = time.perf_counter()
            process_video(source, Path(name) / output, predictor=predictor, **options)
            rate = len(film) / (time.perf_counter() - start)
            text = " ".join([output[1:], *(f"{key}={value}" for key, value in options.items())])
            print(f"{text:40}{rate:7.1f} frames a second, {rate / bare:.2f} of the network's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutouts", help="folder of RGBA pictures")
    parser.add_argument("--backgrounds", help="folder of pictures")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head = f"{'film':28}{'dtSSD':>9}{'steady':>9}{'ratio':>8}{'MAE':>10}{'steady':>9}{'ratio':>8}"
    print(f"{options.frames} frames of {options.width} x {options.height}\n{head}{'time':>12}")
    predictor: Any = None
    if options.model != "none":
        from birefnet import load

        predictor = load(options.model)
    mattes: dict[str, Callable[[Film], list[Pixels]]] = {"spoilt": lambda f: list(flickering(f))}
    if predictor is not None:
        mattes[options.model] = lambda f: [
            matte.alpha for matte in predictor.predict(pixels for pixels, _ in f)
        ]
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in mattes}
    film: Film = []
    for name, film in films(options):
        for maker, make in mattes.items():
            ratios[maker].append(compare(f"{name} {maker}", film, make(film)))
    for maker, found in ratios.items():
        mean = np.exp(np.log(found).mean(axis=0))
        print(f"{maker}: dtSSD x {mean[0]:.2f}, MAE x {mean[1]:.2f} (geometric means)")
    if predictor is not None:
        measure_speed(film, predictor)


if __name__ == "__main__":
    main()
