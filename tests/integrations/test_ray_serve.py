"""The server under Ray Serve, on a local cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "ray_serve.yaml"


def test_the_config_file_fits_the_application() -> None:
    from ray.serve.schema import ServeDeploySchema

    from birefnet.integrations.ray_serve import Arguments

    config = yaml.safe_load(CONFIG.read_text())
    schema = ServeDeploySchema(**config)
    (application,) = schema.applications
    arguments = Arguments(**application.args)
    assert arguments.server_settings().timeout_s == 60
    assert {item.name for item in application.deployments} == {"Server", "Network"}


def test_settings_are_checked_before_anything_is_deployed() -> None:
    from birefnet.errors import BiRefNetError
    from birefnet.integrations.ray_serve import Arguments

    with pytest.raises(BiRefNetError, match="no setting 'colour'"):
        Arguments(settings={"colour": 1}).server_settings()
    with pytest.raises(BiRefNetError, match="queue"):
        Arguments(settings={"queue": 0}).server_settings()
    assert Arguments(settings={"cors": ["*"]}).server_settings().cors == ("*",)


@pytest.mark.parametrize("is_guided", [False, True])
def test_a_network_with_a_guidance_channel_is_known_as_one(is_guided: bool) -> None:
    """On the server's side, where the network itself is not."""
    from birefnet.imaging.geometry import Preprocess
    from birefnet.inference.engines.base import takes_guidance
    from birefnet.integrations.ray_serve import About, RemoteEngine

    about = About("n", None, "torch", 1, is_guided, Preprocess(64, 64))
    engine: Any = RemoteEngine(cast(Any, None), about)
    assert takes_guidance(engine) == is_guided


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that averages two views."""
    import torch

    from birefnet.imaging.geometry import Preprocess
    from birefnet.network.build import build_network
    from birefnet.network.config import preset
    from birefnet.weights import save_directory

    torch.manual_seed(0)
    views = Preprocess(64, 64, views=((96, 64, True), (64, 64, False)))
    folder = tmp_path_factory.mktemp("model")
    return save_directory(folder, build_network(preset("tiny")), views, name="tiny")


@pytest.fixture(scope="module")
def cluster(weights: Path) -> Iterator[str]:
    """Where the application listens: two replicas of each deployment, of a tiny network."""
    from ray import serve

    from birefnet.integrations.ray_serve import Arguments, app

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = str(ROOT / "src")  # the replicas inherit it
    # A busy machine takes longer to import Ray than its proxy is given.
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "120"
    os.environ["RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S"] = "120"
    ray.init(num_cpus=4, log_to_driver=False, logging_level="error", include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    arguments = Arguments(
        model=str(weights), device="cpu", engine="torch", batch=4, wait_ms=200,
        settings={"api_keys": ["a-key-that-is-long-enough"]},
    )  # fmt: skip
    made = app(arguments)
    serve.run(made, name="birefnet")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
def test_requests_share_the_batches_of_a_network(cluster: str, weights: Path) -> None:
    import numpy as np

    from birefnet import load
    from compat_client import disc_file, pixels_of

    keyed = {"X-Api-Key": "a-key-that-is-long-enough"}
    assert httpx.get(f"{cluster}/health").json()["status"] == "ok"
    assert httpx.get(f"{cluster}/v1/models").status_code == 401
    (model, *_) = httpx.get(f"{cluster}/v1/models", headers=keyed).json()["data"]
    assert model["id"] == "tiny"

    def remove(number: int) -> Any:
        path, name = [("/v1/remove", "file"), ("/v1.0/removebg", "image_file")][number % 2]
        files = {name: ("a.png", disc_file(40 + number, 48))}
        fields = {"kind": "mask"} if number % 2 == 0 else {"size": "full", "channels": "alpha"}
        url = cluster + path
        return httpx.post(url, files=files, data=fields, headers=keyed, timeout=120)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(remove, range(16)))
    own = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert set(range(0, 16, 2)) <= set(own)  # a random network may find no foreground
    for number in own:
        assert pixels_of(answers[number].content).shape == (40 + number, 48)
    in_hand = load(weights, device="cpu", engine="torch").predict(disc_file(40, 48))
    mask = pixels_of(answers[0].content) / 255
    assert np.abs(mask - in_hand.alpha).max() < 5e-3

    from ray import serve

    network = serve.get_deployment_handle("Network", "birefnet")
    sizes = network.sizes.remote().result()
    assert sum(sizes) == 2 * 16
    assert max(sizes) > 1

    broken = httpx.post(f"{cluster}/api/remove", files={"file": ("a", b"x")}, headers=keyed)
    assert broken.status_code == 400
    assert isinstance(broken.json()["detail"], str)
