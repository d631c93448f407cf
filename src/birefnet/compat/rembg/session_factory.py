"""rembg's `new_session`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from birefnet.compat.rembg.sessions import Session, class_of
from birefnet.compat.rembg.sessions.base import BaseSession
from birefnet.weights.locate import default_model


def new_session(
    model_name: str | None = None, *args: object, sess_opts: object = None, **kwargs: Any
) -> BaseSession:
    """Load a network.

    Args:
        model_name: one of `sessions_names`, or whatever `birefnet.load` takes; `None` for
            BIREFNET_MODEL or the bundled `nano`.
        sess_opts: of ONNX Runtime. For networks of this package it has no effect, and a warning
            says so; for rembg's other networks OMP_NUM_THREADS is its usual number of threads.
        **kwargs: `providers` of ONNX Runtime; `model_path`, a file instead of the network of this
            name; `device`, `dtype` and `engine` of `birefnet.load`.

    Raises:
        BiRefNetError: no such network, no file of it, or no such device.
    """
    if args:  # rembg had them second, once
        kwargs["providers"], *args_left = args
        if args_left:
            raise TypeError("new_session takes its further arguments by name")
    name = model_name or default_model()
    kind = class_of(name)
    path = kwargs.get("model_path")
    if not issubclass(kind, Session) and path and Path(path).suffix.lower() != ".onnx":
        kind = class_of(str(Path(path).expanduser()))  # a BiRefNet's weights
        del kwargs["model_path"]
    if issubclass(kind, Session):
        if sess_opts is not None:
            warnings.warn(
                "sess_opts has no effect: birefnet sets its engines up itself", stacklevel=2
            )
        return kind(name, **kwargs)
    if (threads := os.getenv("OMP_NUM_THREADS")) and threads.isdecimal():
        import onnxruntime

        sess_opts = sess_opts or onnxruntime.SessionOptions()
        for field in ("inter_op_num_threads", "intra_op_num_threads"):
            if getattr(sess_opts, field) == 0:
                setattr(sess_opts, field, int(threads))
    return kind(name, sess_opts, **kwargs)
