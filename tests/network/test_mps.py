"""What runs on Apple's GPUs uses only what torch has there: `fake_mps` refuses the rest."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from birefnet.inference.engines import devices
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify
from birefnet.training.loss_settings import LossSettings
from birefnet.training.objective import Objective
from fake_mps import fake_mps, operators_without_kernel


def test_the_stand_in_refuses() -> None:
    assert {"linalg_eig", "fake_quantize_per_tensor_affine_cachemask"} <= operators_without_kernel()
    assert not {"convolution", "add.Tensor", "grid_sampler_2d"} & operators_without_kernel()
    picture = torch.rand(1, 3, 9, 9)
    with fake_mps() as device:
        x = picture.to(device)
        assert x.device == (x * 2).device == torch.zeros(3, device=device).device == device
        assert x.cpu().device.type == "cpu"
        grid = torch.zeros(1, 4, 4, 2, device=device)
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(3, device="mps", dtype=torch.float64)
        with pytest.raises(NotImplementedError, match="linalg_eig"):
            torch.linalg.eig(x[0, 0])
        with pytest.raises(NotImplementedError, match="border"):
            functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
        with pytest.raises(RuntimeError, match="divisible"):
            functional.interpolate(x, (4, 4), mode="area")
        with pytest.raises(RuntimeError, match="same device"):
            x + picture


NETWORKS = ["tiny", "nano", "pvt_v2_b0"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_simplified_and_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["mps", "cpu"])
    torch.manual_seed(0)
    network = build_network(name).eval()
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    expected = TorchEngine(simplify(network), "cpu").infer(batch)
    with fake_mps() as device:
        there = copy.deepcopy(network).to(device)
        simplified = simplify(there)
        assert next(simplified.parameters()).device == device
        engine = TorchEngine(simplified, "auto")
        assert engine.name == "torch mps fp32"
        found = engine.infer(batch)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_training_step_and_its_validation() -> None:
    torch.manual_seed(0)
    network = build_network("tiny").train()
    here = copy.deepcopy(network)
    image, truth = torch.randn(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.5).float()
    objective = Objective(LossSettings(classification=0.0))
    objective(here(image, supervised=True), image, truth)[0].backward()
    with fake_mps() as device:
        network.to(device)
        x, t = image.to(device), truth.to(device)
        loss, _ = objective(network(x, supervised=True), x, t)
        loss.backward()
        assert np.isfinite(float(loss.detach()))
        for ours, theirs in zip(network.parameters(), here.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
        simplify(network.eval())(x)
