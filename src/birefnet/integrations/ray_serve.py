"""Ray Serve: the HTTP server on a cluster, its networks apart from its routes.

    serve run birefnet.integrations.ray_serve:app model=general
    serve deploy deploy/ray_serve.yaml

Two deployments scale by themselves: `Server` answers HTTP (decodes, refines, encodes; processors),
`Network` runs the network (a GPU each, where there are some). Pictures from all `Server`s meet in
the batches of a `Network`.

Documentation: https://docs.ray.io/en/latest/serve/
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, MissingExtraError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import takes_guidance
from birefnet.inference.predictor import Predictor

try:
    from pydantic import BaseModel, ConfigDict, Field
    from ray import serve
    from ray.serve.exceptions import BackPressureError
    from ray.serve.handle import DeploymentHandle

    from birefnet.serving.errors import Busy
    from birefnet.serving.settings import ServerSettings
except ImportError:
    raise MissingExtraError("Ray Serve", "ray", "serve") from None

Array = NDArray[np.float32]

NETWORK = "Network"
CALLERS = 16  # of a network at the same time, in each `Server`


class Arguments(BaseModel):
    """Settings of `serve run` and of the config file.

    Everything else about the two deployments (replicas, autoscaling, processors, GPUs) is said in
    the config file's section `deployments`.
    """

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="See `birefnet.load`; None: the default.")
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    batch: int | None = Field(None, ge=1, description="Pictures that run together at most.")
    wait_ms: float = Field(10, ge=0, description="How long a picture waits for company.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Of `ServerSettings`, such as api_keys or max_pixels."
    )

    def server_settings(self) -> ServerSettings:
        """The settings of each `Server`; the page is left out unless it is asked for.

        Raises:
            BiRefNetError: an unknown name, or a value that makes no sense.
        """
        known = {item.name for item in fields(ServerSettings)}
        unknown = sorted(set(self.settings) - known)
        if unknown:
            raise BiRefNetError(f"there is no setting {unknown[0]!r}; there are {sorted(known)}")
        values: dict[str, Any] = {"page": False}
        for name, value in self.settings.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return ServerSettings(**values)


@dataclass(frozen=True)
class About:
    """The facts of the network that a `Server` needs."""

    name: str | None
    licence: str | None
    engine: str
    batch_size: int
    takes_guidance: bool
    preprocess: Preprocess


@serve.deployment(name=NETWORK, max_ongoing_requests=64)
class Network:
    """One network; pictures of equal size that come at about the same time run together."""

    def __init__(self, arguments: Arguments) -> None:
        from birefnet.api import load

        predictor = load(
            arguments.model,
            device=arguments.device,
            dtype=arguments.dtype,
            engine=arguments.engine,
        )
        self.engine = predictor.engine
        batch = arguments.batch or predictor.engine.batch_size
        self.about_it = About(
            predictor.name,
            predictor.licence,
            predictor.engine.name,
            batch,
            takes_guidance(predictor.engine),
            predictor.preprocess,
        )
        self.batches: list[int] = []
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="birefnet-network")
        batched: Any = self.infer
        batched.set_max_batch_size(batch)
        batched.set_batch_wait_timeout_s(arguments.wait_ms / 1000 if batch > 1 else 0.0)

    async def about(self) -> About:
        return self.about_it

    async def sizes(self) -> list[int]:
        """Of the last batches."""
        return self.batches

    async def __call__(self, picture: Array) -> Array:
        """Logits [1,H,W] of a picture's input [3,H,W]."""
        outcome: Array | BiRefNetError = await self.infer(picture)
        if isinstance(outcome, BiRefNetError):
            raise outcome
        return outcome

    @serve.batch
    async def infer(self, pictures: list[Array]) -> list[Array | BiRefNetError]:
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._infer, pictures)

    def _infer(self, pictures: list[Array]) -> list[Array | BiRefNetError]:
        outcomes: list[Any] = [None] * len(pictures)
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, picture in enumerate(pictures):
            by_shape[picture.shape].append(number)
        for numbers in by_shape.values():
            self.batches = [*self.batches[-99:], len(numbers)]
            try:
                logits: Any = self.engine.infer(np.stack([pictures[number] for number in numbers]))
            except BiRefNetError as error:
                logits = [error] * len(numbers)
            for number, outcome in zip(numbers, logits, strict=True):
                outcomes[number] = outcome
        return outcomes


class RemoteEngine:
    """An engine whose network is a deployment; for threads outside of any event loop.

    Args:
        network: the deployment.
        about: its network.
    """

    def __init__(self, network: DeploymentHandle, about: About) -> None:
        self.name = f"ray serve, {about.engine}"
        self.batch_size = about.batch_size
        self.takes_guidance = about.takes_guidance
        self._network = network

    def concurrent(self) -> tuple[RemoteEngine, int]:
        """So many may call at once: what they send meets in the batches of the network."""
        return self, CALLERS

    def infer(self, batch: Array) -> Array:
        """See `Engine.infer`.

        Raises:
            Busy: every replica has as much as it may take.
        """
        answers = [self._network.remote(picture) for picture in batch]
        try:
            return np.stack([answer.result() for answer in answers])
        except BackPressureError as error:
            raise Busy(5, "all networks of the cluster are busy; try again later") from error


def app(arguments: Arguments) -> serve.Application:
    """The application, for `serve run`, `serve.run` and config files.

    Raises:
        BiRefNetError: settings that make no sense, before anything is deployed.
    """
    settings = arguments.server_settings()

    def build() -> object:
        from birefnet.serving.app import create_app

        here = serve.get_replica_context()
        network = serve.get_deployment_handle(NETWORK, here.app_name)
        # A replica starts inside an event loop; what waits must do so beside it.
        with ThreadPoolExecutor(1) as beside:
            about: About = beside.submit(lambda: network.about.remote().result()).result()
        predictor = Predictor(
            RemoteEngine(network, about),
            about.preprocess,
            name=about.name,
            licence=about.licence,
        )
        return create_app(predictor, settings)

    ingress: Any = serve.ingress(build)
    routes: Any = serve.deployment(ingress(), name="Server", max_ongoing_requests=64)
    network: Any = Network
    return routes.bind(network.bind(arguments))
