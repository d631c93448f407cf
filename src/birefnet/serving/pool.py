"""The models of a server: loaded when asked for, the least recently used dropped for room."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birefnet.api import load
from birefnet.inference.predictor import Predictor
from birefnet.serving.batching import ModelQueue
from birefnet.serving.errors import UnknownModel
from birefnet.serving.metrics import Metrics
from birefnet.serving.settings import ServerSettings
from birefnet.weights.catalogue import CHECKPOINTS, lookup
from birefnet.weights.locate import bundled_names, default_model


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes:
        predictor: with the model's engine.
        queue: where requests queue for that engine.
        bytes: that it takes.
        users: pictures and videos that are worked on with it.
    """

    predictor: Predictor
    queue: ModelQueue
    bytes: int
    users: int = 0


class ModelPool:
    """Predictors by name.

    Args:
        settings: which models there are, and the memory for them.
        metrics: where loads are counted.
        predictor: the default model, if it is loaded already.
    """

    def __init__(
        self, settings: ServerSettings, metrics: Metrics, predictor: Predictor | None = None
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._sources = _sources(settings)
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._sizes: dict[str, int] = {}
        self.default = _name(settings.model or default_model())
        if predictor is not None:
            self.default = predictor.name or "default"
            self._sources.pop(self.default, None)
            queue = ModelQueue.of(self.default, predictor.engine)
            self._keep(self.default, LoadedModel(predictor, queue, _weights_of(predictor), users=1))
        else:
            self._sources.setdefault(self.default, settings.model or default_model())

    @property
    def names(self) -> list[str]:
        """All that requests may ask for, the default first."""
        return list(dict.fromkeys([self.default, *self._sources]))

    def name_of(self, name: str | None) -> str:
        """The model that a request means, by name or alias.

        Raises:
            UnknownModel: it is not one of this server's.
        """
        if not name:
            return self.default
        by_lower = {name.lower(): name for name in self.names}
        if name.lower() in by_lower:
            return by_lower[name.lower()]
        checkpoint = lookup(name)
        if checkpoint is not None and checkpoint.name in by_lower:
            return checkpoint.name
        raise UnknownModel(
            f"this server has no model {name[:80]!r}; it has {', '.join(self.names)}"
        )

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[LoadedModel]:
        """The model of a name that `name_of` gave; loaded if need be, and kept meanwhile.

        Raises:
            WeightsError: it cannot be loaded.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._loaded:
                await self._load(name)
            held = self._loaded[name]
            held.users += 1
        self._loaded.move_to_end(name)
        try:
            yield held
        finally:
            held.users -= 1
            self._make_room(0)

    def clear(self) -> None:
        """Drop the models that nobody uses."""
        for name, held in list(self._loaded.items()):
            if not held.users:
                del self._loaded[name]
                self._metrics.models.remove(name)
        gc.collect()

    def about(self) -> list[dict[str, Any]]:
        """Each model as plain values, for `/v1/models`."""
        return [self.about_one(name) for name in self.names]

    def about_one(self, name: str) -> dict[str, Any]:
        """The same of one of `names`."""
        held, checkpoint = self._loaded.get(name), lookup(name)
        entry: dict[str, object] = {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "birefnet",
            "default": name == self.default,
            "loaded": held is not None,
            "title": checkpoint.title if checkpoint else None,
            "licence": checkpoint.licence if checkpoint else None,
            "input": checkpoint.input_size if checkpoint else None,
        }
        if held is not None:
            preprocess = held.predictor.preprocess
            entry |= {
                "engine": held.predictor.engine.name,
                "bytes": held.bytes,
                "licence": held.predictor.licence or entry["licence"],
                "input": entry["input"] or f"{preprocess.width}x{preprocess.height}",
            }
        return entry

    async def _load(self, name: str) -> None:
        checkpoint = lookup(name)
        self._make_room(self._sizes.get(name) or (checkpoint and checkpoint.approximate_bytes) or 0)
        settings = self._settings

        def work() -> LoadedModel:
            before = resident_bytes()
            predictor = load(
                self._sources[name],
                device=settings.device,
                dtype=settings.dtype,
                engine=settings.engine,
            )
            # The first picture compiles and allocates; the first client need not wait for that.
            size = predictor.preprocess
            predictor.predict(np.zeros((size.height, size.width, 3), np.uint8))
            grown = resident_bytes() - before
            queue = ModelQueue.of(name, predictor.engine)
            return LoadedModel(predictor, queue, _weights_of(predictor) or max(0, grown))

        self._keep(name, await asyncio.to_thread(work))
        self._make_room(0)

    def _keep(self, name: str, loaded: LoadedModel) -> None:
        self._loaded[name] = loaded
        self._sizes[name] = loaded.bytes
        self._metrics.loads.labels(name).inc()
        self._metrics.models.labels(name).set(loaded.bytes)

    def _make_room(self, needed: int) -> None:
        """Drop the models used longest ago, as far as nobody uses them, until `needed` fits."""
        total = needed + sum(held.bytes for held in self._loaded.values())
        newest = next(reversed(self._loaded), None) if not needed else None
        dropped = False
        for name, held in list(self._loaded.items()):
            if total <= self._settings.memory_budget:
                break
            if held.users or name == newest:
                continue
            del self._loaded[name]
            self._metrics.models.remove(name)
            total -= held.bytes
            dropped = True
        if dropped:
            gc.collect()


def resident_bytes() -> int:
    """Memory of this process as the system counts it; 0 where it cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _weights_of(predictor: Predictor) -> int:
    """Bytes of a torch network's parameters and buffers; 0 for engines that do not show them."""
    network = getattr(predictor.engine, "network", None)
    if network is None or not hasattr(network, "parameters"):
        return 0
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _sources(settings: ServerSettings) -> dict[str, str]:
    """The source of each model by its name: a bundled or released name, or a path."""
    sources = {name: name for name in bundled_names()}
    for text in settings.models:
        if text == "all":
            released = (item.name for item in CHECKPOINTS.values() if item.kind == "network")
            sources |= {name: name for name in released if name not in sources}
        elif "=" in text:
            name, _, path = text.partition("=")
            sources[name] = path
        else:
            sources[_name(text)] = text
    return sources


def _name(model: str) -> str:
    """The name of a model for clients: a released one by its name, a file by its name alone."""
    checkpoint = lookup(model)
    if checkpoint is not None:
        return checkpoint.name
    return Path(model).stem if os.sep in model or Path(model).exists() else model
