"""The script beside an exported file that runs it with its runtime alone."""

from __future__ import annotations

from pathlib import Path

from birefnet.export.request import Format
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Metadata

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
_RUN = {
    "onnx": """\
onnxruntime.set_default_logger_severity(3)
model = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
run = lambda x: model.run(None, {model.get_inputs()[0].name: x})[0]
""",
    "openvino": """\
model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
run = lambda x: model(x)[0]
""",
    "torch": """\
model = torch.export.load(path).module()
run = lambda x: model(torch.from_numpy(x)).detach().numpy()
""",
}
_OPERATOR = """\
import birefnet.network.deform  # its operator; a file of --standard-ops runs without birefnet
"""
_FILTERS = {"bilinear": "BILINEAR", "area": "BOX", "bicubic": "BICUBIC"}

_PIXELS = """\
matte = run(np.asarray(picture)[None])[0, 0]
"""
_NATIVE_SIZE = """\
scale = min(max(1, {0.minimum} / min(picture.size)), {0.maximum} / max(picture.size))
near = [round(side * scale / {0.multiple}) * {0.multiple} for side in picture.size]
size = [min({0.maximum}, max({0.minimum}, side)) for side in near]
"""
_NORMALISE = """\
x = np.asarray(picture.resize(size, Image.Resampling.{filter}), np.float32) / 255
x = (x - np.float32({0.mean})) / np.float32({0.std})
x = np.ascontiguousarray(x.transpose(2, 0, 1)[None])
"""
_PAD_SIZE = """\
scale = min({0.width} / picture.width, {0.height} / picture.height)
size = [max(1, round(side * scale)) for side in picture.size]
left, top = ({0.width} - size[0]) // 2, ({0.height} - size[1]) // 2
"""
_PAD = """\
rest = ({0.height} - size[1] - top, {0.width} - size[0] - left)
x = np.pad(x, ((0, 0), (0, 0), (top, rest[0]), (left, rest[1])))
"""
_UNPAD = """\
logits = logits[top : top + size[1], left : left + size[0]]
"""
_GUIDANCE = """\
x = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))  # no guidance
"""
_ONE_VIEW = """\
logits = run(x)[0, 0]
"""
_VIEWS = """\
views = {views}  # width, height, mirrored; the logits are averaged
def shrink(x, side):  # the last axis, by area
    part = math.gcd(side, x.shape[-1])
    return x.repeat(side // part, -1).reshape(*x.shape[:-1], side, -1).mean(-1)
logits = 0
for width, height, mirrored in views:
    view = shrink(shrink(x, width).swapaxes(2, 3), height).swapaxes(2, 3)
    seen = run(np.ascontiguousarray(view[..., ::-1] if mirrored else view))[0, 0]
    seen = Image.fromarray(np.ascontiguousarray(seen[:, ::-1] if mirrored else seen))
    logits = logits + np.asarray(seen.resize(size, Image.Resampling.BILINEAR)) / len(views)
"""
_MATTE = """\
matte = Image.fromarray(1 / (1 + np.exp(-np.float32(logits))))
matte = np.asarray(matte.resize(picture.size, Image.Resampling.BILINEAR))
"""


def script_of(path: Path) -> Path:
    """Where the script of the exported file `path` lies."""
    return path.with_name(path.name + ".run.py")


def script(path: Path, format: Format, metadata: Metadata, *, standard_ops: bool) -> str:
    """A script `python FILE.run.py PICTURE MASK.png`.

    It needs NumPy, Pillow and the runtime of the format; a torch.export program whose deformable
    convolutions are not `standard_ops` needs birefnet too.

    Args:
        path: the exported file, which the script expects in its own folder.
        format, metadata: of that file.
        standard_ops: whether it has ordinary operators only.
    """
    package = _PACKAGES[format]
    packages = f"numpy pillow {package}"
    preprocess = metadata.preprocess
    is_views = metadata.input == "normalised" and bool(preprocess.views)
    operator = format == "torch" and not standard_ops
    return "".join(
        (
            f'"""Writes the mask of a picture: python {script_of(path).name} PICTURE MASK.png\n\n',
            f'First: pip install {packages}{" birefnet" if operator else ""}\n"""\n',
            "import math\n" if is_views else "",
            "import sys\nfrom pathlib import Path\n\n",
            f"import numpy as np\nimport {package}\nfrom PIL import Image, ImageOps\n",
            _OPERATOR if operator else "",
            f"\npath = Path(__file__).with_name({path.name!r})\n",
            _RUN[format],
            'picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")\n',
            _PIXELS if metadata.input == "pixels" else _normalised(preprocess, metadata.guided),
            "Image.fromarray(np.uint8(np.rint(matte.clip(0, 1) * 255))).save(sys.argv[2])\n",
        )
    )


def _normalised(preprocess: Preprocess, guided: bool) -> str:
    """The lines from the picture to its matte for a graph of normalised pictures."""
    is_padded = preprocess.fit == "pad" and not preprocess.views
    if is_padded:
        size = _PAD_SIZE
    elif preprocess.fit == "native" and not preprocess.views:
        size = _NATIVE_SIZE
    else:
        largest = preprocess.views[0] if preprocess.views else preprocess
        size = f"size = ({largest.width}, {largest.height})\n"
    views = [tuple(view) for view in preprocess.views]
    text = "".join(
        (
            size,
            _NORMALISE,
            _PAD if is_padded else "",
            _GUIDANCE if guided else "",
            _VIEWS if views else _ONE_VIEW,
            _UNPAD if is_padded else "",
            _MATTE,
        )
    )
    return text.format(preprocess, filter=_FILTERS[preprocess.interpolation], views=views)
