"""The objective: what it adds up to, every stage reached, weights by epoch, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from birefnet.errors import BiRefNetError
from birefnet.network.birefnet import SupervisedOutput
from birefnet.network.blocks import resize_like
from birefnet.training import losses
from birefnet.training.adversarial import Discriminator, discriminator_loss, generator_loss
from birefnet.training.loss_settings import MAP_TERMS, TERMS, LossPhase, LossSettings
from birefnet.training.objective import Objective


def output(batch: int = 2, *, size: int = 64, classes: int = 0) -> SupervisedOutput:
    """What a network gives while training, as leaves."""
    torch.manual_seed(0)
    coarse = [torch.randn(batch, 1, n, n, requires_grad=True) for n in (2, 4, 8)]
    final = torch.randn(batch, 1, size, size, requires_grad=True)
    gradients = [torch.randn(batch, 1, n, n, requires_grad=True) for n in (2, 4, 8)]
    labels = torch.randn(batch, classes, requires_grad=True) if classes else None
    return SupervisedOutput([*coarse, final], gradients, labels)


def batch(size: int = 64, number: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    truth = (torch.rand(number, 1, size, size) > 0.5).float()
    return torch.randn(number, 3, size, size), truth


def test_reaches_every_output() -> None:
    out, (image, truth) = output(classes=5), batch()
    total, parts = Objective()(out, image, truth, classes=torch.tensor([3, -1]))
    total.backward()
    assert all(float(x.grad.abs().sum()) > 0 for x in (*out.stages, *out.gradients))
    assert (out.classes.grad.abs().sum(dim=1) > 0).tolist() == [True, False]
    assert set(parts) == {"bce", "iou", "ssim", "gradient", "classification"}


def test_parts_are_detached_and_add_up() -> None:
    settings = LossSettings(**dict.fromkeys(MAP_TERMS, 0.5), gradient=2.0)
    total, parts = Objective(settings)(output(), *batch())
    assert set(parts) == {*MAP_TERMS, "gradient"}
    assert not any(value.requires_grad for value in parts.values())
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(), total.detach())


def test_is_the_sum_over_the_four_maps() -> None:
    out, (image, truth) = output(), batch()
    _, parts = Objective(LossSettings(bce=30, iou=0.5, ssim=10))(out, image, truth)
    maps = [resize_like(m, truth) for m in out.stages]
    expected = {
        "bce": 30 * sum(losses.bce(m, truth).mean() for m in maps),
        "iou": 0.5 * sum(losses.iou(m, truth).mean() for m in maps),
        "ssim": 10 * sum(losses.ssim(m, truth).mean() for m in maps),
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value.detach())


def test_released_code_sums_iou_over_the_batch() -> None:
    arguments = output(), *batch()
    _, mean = Objective(LossSettings(iou=0.5))(*arguments)
    _, summed = Objective(LossSettings(iou=0.5, iou_summed=True))(*arguments)
    torch.testing.assert_close(summed["iou"], 2 * mean["iou"])
    assert summed["bce"] == mean["bce"]


def test_coarse_maps_can_pay_less_or_nothing() -> None:
    out, (image, truth) = output(), batch()
    final_only = LossSettings(coarse=0, gradient=0)
    Objective(final_only)(out, image, truth)[0].backward()
    assert out.logits.grad is not None
    assert all(m.grad is None for m in (*out.stages[:-1], *out.gradients))
    some = LossSettings(bce=1, iou=0, ssim=1, coarse=0.4, coarse_terms=("bce",), gradient=0)
    _, parts = Objective(some)(out, image, truth)
    coarse = sum(losses.bce(resize_like(m, truth), truth).mean() for m in out.stages[:-1])
    torch.testing.assert_close(
        parts["bce"], (0.4 * coarse + losses.bce(out.logits, truth).mean()).detach()
    )
    torch.testing.assert_close(parts["ssim"], losses.ssim(out.logits, truth).mean().detach())


def test_network_without_references_or_coarse_maps() -> None:
    image, truth = batch()
    bare = SupervisedOutput([torch.randn(2, 1, 64, 64, requires_grad=True)], [], None)
    total, parts = Objective()(bare, image, truth, classes=torch.tensor([1, 2]))
    assert set(parts) == {"bce", "iou", "ssim"}
    assert torch.isfinite(total)


def test_unlabelled_batch_has_no_classification_gradient_and_no_nan() -> None:
    out, (image, truth) = output(classes=4), batch()
    total, parts = Objective()(out, image, truth, classes=torch.tensor([-1, -1]))
    assert parts["classification"] == 0
    assert torch.isfinite(total)


def test_bfloat16_outputs_give_a_finite_float32_loss() -> None:
    out, (image, truth) = output(), batch()
    low = SupervisedOutput(
        [(50 * m).bfloat16() for m in out.stages], [g.bfloat16() for g in out.gradients], None
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = Objective(LossSettings(**dict.fromkeys(MAP_TERMS, 1.0)))(
            low, image.bfloat16(), truth
        )
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert all(torch.isfinite(m.grad).all() for m in out.stages)


def test_region_level_phase_of_the_paper() -> None:
    settings = LossSettings(iou=0.5, phases=(LossPhase(last=20, only=("iou",)),))
    objective = Objective(settings, epochs=600)
    assert objective.weights_at(579) == objective.weights_at(0)
    last = objective.weights_at(580)
    assert last == objective.weights_at(599)
    assert {name for name, weight in last.items() if weight} == {"iou"}
    assert last["iou"] == 0.5


def test_last_phase_of_the_released_code_lets_iou_vanish() -> None:
    """A defect: the factors apply once more in each of the last 40 epochs (fact of the release)."""
    factors = {"bce": 0.0, "iou": 0.5, "mae": 0.9}
    settings = LossSettings(iou=0.5, mae=100, phases=(LossPhase(40, (), factors, repeated=True),))
    objective = Objective(settings, epochs=500)
    assert objective.weights_at(459)["iou"] == 0.5
    assert objective.weights_at(460)["iou"] == 0.25
    assert objective.weights_at(499)["iou"] == pytest.approx(0.5**41)
    assert objective.weights_at(461)["mae"] == pytest.approx(81)
    assert objective.weights_at(499)["bce"] == 0
    assert objective.weights_at(499)["ssim"] == 10


def test_weights_are_a_pure_function_of_the_epoch() -> None:
    phases = (LossPhase(last=0.5, multiply={"iou": 0.5}, repeated=True),)
    objective = Objective(LossSettings(phases=phases), epochs=8)
    first = [objective.weights_at(epoch) for epoch in range(8)]
    assert [objective.weights_at(epoch) for epoch in reversed(range(8))] == first[::-1]
    assert [w["iou"] for w in first] == [2, 2, 2, 2, 1, 0.5, 0.25, 0.125]
    out, (image, truth) = output(), batch()
    assert objective(out, image, truth, epoch=7)[1]["iou"] == pytest.approx(
        float(objective(out, image, truth, epoch=0)[1]["iou"]) / 16
    )


def test_share_of_a_short_run_may_be_no_epoch() -> None:
    objective = Objective(LossSettings(phases=(LossPhase(0.05, ("iou",)),)), epochs=3)
    assert objective.weights_at(2)["bce"] == 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossSettings(bce=-1), "bce is -1; a weight is 0"),
        (lambda: LossSettings(bce=0, iou=0, ssim=0), "every loss of the mattes is 0"),
        (lambda: LossSettings(coarse_terms=("dice",)), "coarse_terms names dice; terms of maps"),
        (lambda: LossSettings(gradient_label="sobel"), "choose paper or official"),
        (lambda: LossSettings(adversarial_every=0), "at least 1"),
        (lambda: LossPhase(20, ("dice",)), "a phase names the terms dice; there are bce"),
        (lambda: LossPhase(0), "last is 0; give a number"),
        (lambda: LossPhase(5, multiply={"bce": -1.0}), "factors are 0 or more"),
        (
            lambda: Objective(LossSettings(phases=(LossPhase(20, ("iou",)),)), epochs=20),
            "takes 20 epochs at the end and the run has 20; train longer",
        ),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(BiRefNetError, match=message):
        make()


def test_adversarial_term_needs_a_discriminator() -> None:
    objective = Objective(LossSettings(adversarial=10))
    out, (image, truth) = output(), batch()
    with pytest.raises(BiRefNetError, match="there is no discriminator"):
        objective(out, image, truth)
    total, parts = objective(out, image, truth, discriminator=Discriminator())
    total.backward()
    assert parts["adversarial"] > 0
    assert float(out.logits.grad.abs().sum()) > 0


def test_discriminator_learns_to_tell_and_teaches_the_matte() -> None:
    """Any size, batches of 1; its loss falls, and the generator's gradient mends the matte."""
    torch.manual_seed(0)
    discriminator = Discriminator()
    image = 1 + 0.1 * torch.randn(1, 3, 48, 64)
    truth = torch.zeros(1, 1, 48, 64)
    truth[..., 12:36, 16:48] = 1
    logits = torch.zeros(1, 1, 48, 64, requires_grad=True)
    optimiser = torch.optim.AdamW(discriminator.parameters(), lr=3e-3)
    seen = []
    for _ in range(40):
        loss = discriminator_loss(discriminator, image, logits, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert logits.grad is None
    assert seen[-1] < 0.7 * seen[0]
    discriminator.eval()
    before = generator_loss(discriminator, image, logits).sum()
    (gradient,) = torch.autograd.grad(before, logits)
    after = generator_loss(discriminator, image, logits - 2 * gradient / gradient.abs().mean())
    assert after.sum() < before


def test_every_term_is_a_setting() -> None:
    assert set(TERMS) <= set(LossSettings.__dataclass_fields__)
