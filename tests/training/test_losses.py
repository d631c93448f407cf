"""Losses: the reference values, empty truths, low precision, and what the outward label is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from birefnet.network.birefnet import SupervisedOutput
from birefnet.training import losses
from birefnet.training.objective import Objective


@pytest.fixture(scope="module")
def pair(reference: Path) -> tuple[Tensor, Tensor]:
    spec = importlib.util.spec_from_file_location("fill", reference / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    logits = 3 * fill.image("loss_logits", 2, 96, 128)[:, :1]
    truth = fill.image("loss_truth", 2, 96, 128)[:, :1] > 0
    return torch.from_numpy(logits), torch.from_numpy(truth).float()


@pytest.mark.parametrize(
    ("key", "loss"),
    [
        ("bce_mean", losses.bce),
        ("iou_summed_over_batch", lambda p, t: losses.iou(p, t).sum()),
        ("ssim_as_official_(1-ssim)/2", losses.ssim),
        ("mae_mean", losses.mae),
        ("mse_mean", losses.mse),
    ],
)
def test_matches_reference(reference: Path, pair: tuple[Tensor, Tensor], key: str, loss) -> None:
    expected = json.loads((reference / "losses.json").read_text())[key]
    assert float(loss(*pair)) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_matte_costs_nothing() -> None:
    truth = (torch.rand(2, 1, 32, 32) > 0.5).float()
    logits = 60 * (truth - 0.5)
    for loss in (losses.bce, losses.iou, losses.ssim, losses.mae, losses.mse):
        assert float(loss(logits, truth).max()) < 1e-5


def test_iou_on_empty_truth_pushes_every_pixel_down() -> None:
    logits = torch.randn(1, 1, 16, 16, requires_grad=True)
    loss = losses.iou(logits, torch.zeros(1, 1, 16, 16))
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(float(logits.detach().sigmoid().mean()), abs=1e-6)
    assert (logits.grad > 1e-5).all()


def test_iou_does_not_depend_on_the_other_pictures() -> None:
    logits, truth = torch.randn(3, 1, 8, 8), (torch.rand(3, 1, 8, 8) > 0.5).float()
    alone = torch.cat([losses.iou(x[None], t[None]) for x, t in zip(logits, truth, strict=True)])
    torch.testing.assert_close(losses.iou(logits, truth), alone)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_finite_in_bfloat16_at_extremes(value: float) -> None:
    logits = torch.tensor([-80.0, 0, 80], dtype=torch.bfloat16).view(1, 1, 1, 3).expand(2, 1, 16, 3)
    logits = logits.clone().requires_grad_()
    truth = torch.full((2, 1, 16, 3), value, dtype=torch.bfloat16)
    total = losses.bce(logits, truth) + losses.iou(logits, truth).mean()
    total = total + losses.ssim(logits, truth) + losses.mae(logits, truth)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_gradient_label_is_detached_masked_and_bounded() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., 16:] = 1.0  # one vertical edge, left
    image[..., 48:] = 0.0  # another, right
    coarse = torch.full((1, 1, 8, 8), -20.0, requires_grad=True)
    with torch.no_grad():
        coarse[..., 2] = 20.0  # an object at the left edge only
    label = losses.gradient_label(image, coarse, radius=1)
    assert label.shape == coarse.shape
    assert not label.requires_grad
    assert 0 <= float(label.min()) <= float(label.max()) <= 1
    assert float(label[..., 1:4].max()) > 0.5
    assert float(label[..., 5:].max()) < 1e-6


def test_objective_reaches_every_output() -> None:
    truth = (torch.rand(2, 1, 64, 64) > 0.5).float()
    coarse = [torch.randn(2, 1, n, n, requires_grad=True) for n in (2, 4, 8)]
    final = torch.randn(2, 1, 64, 64, requires_grad=True)
    gradients = [torch.randn(2, 1, n, n, requires_grad=True) for n in (2, 4, 8)]
    output = SupervisedOutput([*coarse, final], gradients, None)
    total, parts = Objective()(output, torch.randn(2, 3, 64, 64), truth)
    total.backward()
    assert all(float(x.grad.abs().sum()) > 0 for x in (*coarse, final, *gradients))
    assert {"bce", "iou", "ssim", "mae", "coarse0", "gradient2"} <= set(parts)
