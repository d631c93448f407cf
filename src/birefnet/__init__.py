"""Cut the subject out of any picture with Bilateral Reference networks.

>>> from birefnet import remove_background
>>> remove_background("photo.jpg").save("photo.png")  # doctest: +SKIP

Names are looked up on first use, so `import birefnet` loads neither torch nor OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from birefnet import errors
from birefnet.errors import BiRefNetError

if TYPE_CHECKING:
    from birefnet.api import load, load_network, remove_background
    from birefnet.inference.guidance import Guidance, Point
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Matte
    from birefnet.options import Options

__version__ = "0.2.0"

__all__ = [
    "BiRefNetError",
    "Guidance",
    "Matte",
    "Options",
    "Point",
    "Predictor",
    "__version__",
    "errors",
    "load",
    "load_network",
    "remove_background",
]

_HOMES = {
    "Guidance": "birefnet.inference.guidance",
    "Matte": "birefnet.matte",
    "Options": "birefnet.options",
    "Point": "birefnet.inference.guidance",
    "Predictor": "birefnet.inference.predictor",
    "load": "birefnet.api",
    "load_network": "birefnet.api",
    "remove_background": "birefnet.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'birefnet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
