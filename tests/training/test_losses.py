"""Losses: the reference values, empty truths, extreme logits, low precision, any batch and size."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from birefnet.training import losses

Loss = Callable[[Tensor, Tensor], Tensor]


def composition(logits: Tensor, truth: Tensor) -> Tensor:
    """On a fixed picture that is nowhere 0."""
    image = torch.linspace(0.5, 2.0, 3 * truth.shape[-2] * truth.shape[-1], device=truth.device)
    return losses.composition(logits, truth, image.view(1, 3, *truth.shape[-2:]))


# Of mattes; the gradient of each must lower a prediction where the truth is empty.
OF_TRUTH: dict[str, Loss] = {
    "bce": losses.bce,
    "iou": losses.iou,
    "ssim": losses.ssim,
    "mae": losses.mae,
    "mse": losses.mse,
    "patch_iou": losses.patch_iou,
    "contour": losses.contour,
    "structure": losses.structure,
    "laplacian": losses.laplacian_pyramid,
    "composition": composition,
}
ALL = {**OF_TRUTH, "threshold": losses.threshold_regularisation}


@pytest.fixture(scope="module")
def pair(reference: Path) -> tuple[Tensor, Tensor]:
    spec = importlib.util.spec_from_file_location("fill", reference / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    logits = 3 * fill.image("loss_logits", 2, 96, 128)[:, :1]
    truth = fill.image("loss_truth", 2, 96, 128)[:, :1] > 0
    return torch.from_numpy(logits), torch.from_numpy(truth).float()


REFERENCE: dict[str, Loss] = {
    "bce_mean": lambda p, t: losses.bce(p, t).mean(),
    "iou_summed_over_batch": lambda p, t: losses.iou(p, t).sum(),
    "ssim_as_official_(1-ssim)/2": lambda p, t: losses.ssim(p, t).mean(),
    "mae_mean": lambda p, t: losses.mae(p, t).mean(),
    "mse_mean": lambda p, t: losses.mse(p, t).mean(),
    "threshold_regularisation": lambda p, t: losses.threshold_regularisation(p, t).mean(),
    "contour_weight_10": lambda p, t: losses.contour(p, t).mean(),
    "structure_on_logits": lambda p, t: losses.structure(p, t).mean(),
}


def test_all_reference_values_are_met(reference: Path, pair: tuple[Tensor, Tensor]) -> None:
    expected = json.loads((reference / "losses.json").read_text())
    del expected["inputs"]
    got = {name: float(REFERENCE[name](*pair)) for name in expected}
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"threshold", "contour"}))
def test_a_perfect_matte_costs_nothing(name: str) -> None:
    torch.manual_seed(0)
    truth = (torch.rand(2, 1, 32, 48) > 0.5).float()
    assert float(ALL[name](60 * (truth - 0.5), truth).max()) < 1e-5


@pytest.mark.parametrize("name", ALL)
def test_values_do_not_depend_on_the_batch(name: str) -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(3, 1, 40, 72), (torch.rand(3, 1, 40, 72) > 0.5).float()
    truth[1] = 0
    alone = torch.cat([ALL[name](x[None], t[None]) for x, t in zip(logits, truth, strict=True)])
    together = ALL[name](logits, truth)
    assert together.shape == (3, 1)
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", ALL)
def test_stacked_maps_cost_what_they_cost_alone(name: str) -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 4, 40, 40), torch.rand(2, 1, 40, 40)
    alone = torch.cat([ALL[name](logits[:, i : i + 1], truth) for i in range(4)], dim=1)
    torch.testing.assert_close(ALL[name](logits, truth), alone)


@pytest.mark.parametrize("name", OF_TRUTH)
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_empty_truth_has_a_gradient_that_lowers_the_prediction(name: str, level: float) -> None:
    """Of a flat matte; SSIM and contour have something to smooth first in an uneven one."""
    logits = torch.full((1, 1, 80, 96), level, requires_grad=True)
    before = OF_TRUTH[name](logits, torch.zeros(1, 1, 80, 96)).sum()
    (gradient,) = torch.autograd.grad(before, logits)
    assert float(gradient.sum()) > 1e-6
    inside = gradient[..., 12:-12, 12:-12]  # SSIM takes what lies outside for an edge
    assert (inside > 0).all()


def test_iou_of_an_empty_truth_is_that_of_the_background() -> None:
    logits = torch.randn(1, 1, 16, 16, requires_grad=True)
    loss = losses.iou(logits, torch.zeros(1, 1, 16, 16))
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(float(logits.detach().sigmoid().mean()), abs=1e-6)
    assert (logits.grad > 1e-5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_finite_at_extremes(name: str, dtype: torch.dtype) -> None:
    """Logits of ±100 against 0, 1, halves and empties, forward and backward."""
    columns = torch.tensor([-100.0, 0, 100, 30]).repeat(12)
    for truth in (torch.zeros(48), torch.ones(48), torch.arange(48) % 3 / 2):
        logits = columns.to(dtype).expand(2, 1, 40, 48).clone().requires_grad_()
        target = truth.to(dtype).expand(2, 1, 40, 48)
        loss = ALL[name](logits, target).sum()
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ALL)
def test_autocast_changes_nothing(name: str, pair: tuple[Tensor, Tensor]) -> None:
    """Under autocast a convolution computes in bfloat16, where SSIM's variances are noise."""
    expected = ALL[name](*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ALL[name](*pair)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(1, 1, 9, 11).requires_grad_(), torch.rand(1, 1, 9, 11)
    (gradient,) = torch.autograd.grad(ALL[name](logits, truth).sum(), logits)
    direction = torch.randn_like(logits)
    step = 1e-2
    with torch.no_grad():
        difference = ALL[name](logits + step * direction, truth)
        difference = (difference - ALL[name](logits - step * direction, truth)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=0.02)


def test_patch_iou_walks_over_rows_and_columns() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 1, 80, 100), (torch.rand(2, 1, 80, 100) > 0.7).float()
    truth[:, :, :64, :64] = 0
    patches = [
        losses.iou(logits[..., y : y + 64, x : x + 64], truth[..., y : y + 64, x : x + 64])
        for y in (0, 64)
        for x in (0, 64)
    ]
    torch.testing.assert_close(losses.patch_iou(logits, truth), torch.stack(patches).mean(dim=0))


def test_ssim_of_the_paper_is_twice_that_of_the_released_code(pair: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(losses.ssim(*pair, halved=False), 2 * losses.ssim(*pair))


def test_laplacian_pyramid_weighs_coarse_errors_and_takes_odd_sizes() -> None:
    truth = torch.zeros(1, 1, 37, 53)
    flat = torch.full_like(truth, 2.0)
    grain = 2.0 * torch.randn(1, 1, 37, 53).sign()
    assert losses.laplacian_pyramid(flat, truth).item() == pytest.approx(
        flat.sigmoid().mean().item() * 2**4 / 5, rel=1e-4
    )
    assert losses.laplacian_pyramid(grain - 2, truth) < losses.laplacian_pyramid(flat, truth)


def test_composition_counts_only_where_the_layers_differ() -> None:
    logits, truth = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    foreground = torch.ones(1, 3, 4, 4)
    assert losses.composition(logits, truth, foreground, foreground).item() == 0
    assert losses.composition(logits, truth, foreground).item() == pytest.approx(0.5)


def test_classification_ignores_unknown_labels() -> None:
    logits = torch.randn(3, 219)
    values = losses.classification(logits, torch.tensor([4, -1, 218]))
    assert values[1] == 0
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([4, 218]), reduction="none")
    torch.testing.assert_close(values[[0, 2]], expected)


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


@pytest.mark.parametrize("detached", [True, False])
def test_official_gradient_loss(detached: bool) -> None:
    """The released code's computation, written out: both sides through a sigmoid, at full size."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64)
    coarse = torch.randn(2, 1, 8, 8, requires_grad=True)
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    kernel = torch.ones(1, 1, 5, 5)
    kernel[..., 2, 2] = -24
    edges = F.conv2d(F.pad(image.mean(1, keepdim=True), (2, 2, 2, 2), mode="reflect"), kernel / 48)

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(64, 64), mode="bilinear", align_corners=True)

    expected = F.binary_cross_entropy(up(logits).sigmoid(), (edges * up(coarse)).sigmoid())
    got = losses.official_gradient_loss(logits, image, coarse, detached=detached).mean()
    assert float(got.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    got.backward()
    assert float(logits.grad.abs().sum()) > 0
    assert (coarse.grad is None) == detached


@pytest.mark.slow
def test_compiles_in_one_graph(pair: tuple[Tensor, Tensor]) -> None:
    def everything(logits: Tensor, truth: Tensor) -> Tensor:
        return torch.stack([loss(logits, truth).mean() for loss in ALL.values()]).sum()

    compiled = torch.compile(everything, fullgraph=True)
    torch.testing.assert_close(compiled(*pair), everything(*pair), rtol=1e-4, atol=1e-5)
