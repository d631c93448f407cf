"""A bundled model is read in a thread of its own while the rest of a command is imported."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor


def start_loading(
    model: str | None, device: str, dtype: str, engine: str
) -> Future[Predictor] | None:
    """`birefnet.load` of a bundled model, started at once.

    `None` for other models, which may need a download, and for the engine of a cluster.
    """
    from birefnet.weights.locate import default_model, is_bundled

    name = model or default_model()
    if not is_bundled(name) or engine == "ray":
        return None
    pool = ThreadPoolExecutor(1, thread_name_prefix="birefnet-load")
    loading = pool.submit(_load, name, device, dtype, engine)
    pool.shutdown(wait=False)
    return loading


def _load(name: str, device: str, dtype: str, engine: str) -> Predictor:
    from birefnet.api import load

    return load(name, device=device, dtype=dtype, engine=engine)
