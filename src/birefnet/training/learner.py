"""The network while it is trained: one step of the optimiser, averaged weights, and their state."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from birefnet.errors import BiRefNetError, counted, needs_extra

with needs_extra("torch", "birefnet.training.learner"):
    import torch
    from torch import Tensor, nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import empty_network
from birefnet.network.guidance import PICTURE_CHANNELS
from birefnet.training import distributed, freezing, optim
from birefnet.training.adversarial import Adversary
from birefnet.training.average import Average
from birefnet.training.batches import TrainingData
from birefnet.training.data.batch import Batch
from birefnet.training.loss_settings import MAP_TERMS
from birefnet.training.objective import Objective
from birefnet.training.recipe import Recipe
from birefnet.training.schedule import Plan
from birefnet.weights.checkpoint import assign_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

_SEEDS_APART = 1_000_003  # a prime, so that seeds of different runs do not meet soon
_SMALLEST_SCALE = 1.0  # of fp16 gradients; below it the numbers themselves overflow


class TrainingError(BiRefNetError):
    """A run that cannot go on: the message says why and what to change."""


class Learner:
    """A network, its optimiser and its averaged weights on one device or many.

    Args:
        recipe: how a step is computed.
        network: trained in place.
        data: what moves samples to the device.
        plan: which epoch and which rate a step has.
        accelerator: of the recipe.

    Attributes:
        bare: the network without wrappers; under FSDP its tensors are shards.
        rate: peak learning rate of the decoder.
        step: steps that are done.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: BiRefNet,
        data: TrainingData,
        plan: Plan,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.data, self.plan, self.accelerator = recipe, data, plan, accelerator
        self.device: torch.device = accelerator.device
        self.objective = Objective(recipe.loss, epochs=plan.epochs)
        self.step = 0
        loop = recipe.loop
        self.bare = network
        freezing.freeze(network, loop)
        freezing.synchronise_norms(network, loop, self.device.type)
        freezing.checkpoint_activations(network, loop.checkpoint_activations)
        if distributed.is_sharded(self.accelerator):
            distributed.prepare_for_sharding()
        elif loop.channels_last:  # shards are cut from contiguous weights
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distributed.expect_unused(self.accelerator, self._leaves_heads_unused(network))
        if loop.compile:
            network.compile()
        depths = freezing.block_depths(network.encoder.backbone)
        rate = optim.scaled_rate(recipe.optimiser, self.plan.pictures_per_step)
        self.rate = rate

        def optimiser_of(prepared: nn.Module) -> torch.optim.Optimizer:
            groups = optim.parameter_groups(
                prepared.named_parameters(), recipe.optimiser, depths=depths, rate=rate
            )
            if not groups:
                raise TrainingError("every weight is frozen; unfreeze something to train")
            return optim.make_optimiser(groups, recipe.optimiser)

        if self.accelerator.is_fsdp2:  # shards network and optimiser together
            prepared = self.accelerator.prepare(network, optimiser_of(network))
            self.network, self.optimiser = prepared
        else:
            self.network = self.accelerator.prepare(network)
            self.optimiser = self.accelerator.prepare(optimiser_of(self.network))
        decay = recipe.schedule.ema
        self.average = Average(self.network, decay) if decay else None
        self.adversary: Adversary | None = None
        if recipe.loss.adversarial:
            torch.manual_seed(loop.seed)
            self.adversary = Adversary(recipe.loss, rate, self.device, self.mean_over_processes)

    def _leaves_heads_unused(self, network: BiRefNet) -> bool:
        """Whether some head gets no gradient in some epoch, because its loss is switched off."""
        weights = [self.objective.weights_at(epoch) for epoch in range(self.plan.epochs)]
        loss = self.recipe.loss
        coarse = [sum(w[term] for term in loss.coarse_terms or MAP_TERMS) for w in weights]
        config = network.config
        return (
            (config.outward_reference and not all(w["gradient"] for w in weights))
            or (config.multi_scale_supervision and not (loss.coarse and all(coarse)))
            or (config.auxiliary_classes > 0 and not all(w["classification"] for w in weights))
        )

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(value, "mean")

    def update(self, parts: list[tuple[int, Batch]]) -> dict[str, Tensor]:
        """One step of the optimiser on the parts of its batch; the mean of the losses.

        Args:
            parts: number of the part in the run, and its samples.
        """
        optim.set_rates(self.optimiser, self.plan.factor(self.step))
        epoch = self.plan.epoch(self.step)
        freezing.train_mode(self.bare, self.recipe.loop)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        for index, (part, samples) in enumerate(parts):
            # Gradients are averaged over the processes once per step, in its last part.
            is_last = index == len(parts) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.network):
                for name, value in self._part(part, samples, epoch, len(parts)).items():
                    sums[name] += value / len(parts)
        self._make_step()
        self.step += 1
        if self.average:
            self.average.update(self.step)
        return dict(sums)

    def _part(self, part: int, samples: Batch, epoch: int, parts: int) -> dict[str, Tensor]:
        """Forward and backward pass of one part of a step; its losses."""
        # Dropout is a function of seed, part and process, so a resumed run draws the same.
        number = part * self.accelerator.num_processes + self.accelerator.process_index
        torch.manual_seed(self.recipe.loop.seed * _SEEDS_APART + number)
        batch = self.data.to_device_batch(samples, self.device, self.step)
        image = batch.image
        if self.recipe.loop.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        try:
            output = self.network(image, supervised=True)
        except ValueError as failure:
            if "more than 1 value per channel" not in str(failure):  # torch's, of BatchNorm
                raise
            raise TrainingError(
                f"{counted(len(image), 'picture')} of {image.shape[3]} x {image.shape[2]} at a "
                "time leaves a "
                "BatchNorm a single value; train two at a time (schedule.batch_size=2), larger "
                "pictures, or freeze the norms (loop.batch_norm=frozen, "
                "loop.frozen_encoder_norms=true)"
            ) from None
        picture = image[:, :PICTURE_CHANNELS]  # without guidance
        loss, losses = self.objective(
            output,
            picture,
            batch.mask,
            epoch=epoch,
            classes=batch.labels,
            discriminator=self.adversary.discriminator if self.adversary else None,
        )
        self.accelerator.backward(loss / parts)
        if self.adversary:
            self.adversary.update(part, picture, output.logits, batch.mask)
        return {"loss": loss.detach(), **losses}

    def _make_step(self) -> None:
        clip = self.recipe.loop.clip or float("inf")
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), clip)
        assert norm is not None
        scaler = self.accelerator.scaler
        # With fp16 the scaler skips such a step and lowers its factor; that is its normal work.
        is_final = scaler is None or scaler.get_scale() < _SMALLEST_SCALE
        if is_final and not torch.isfinite(distributed.whole(norm)):
            raise TrainingError(
                f"the gradient of step {self.step} is not finite; continue from the last save "
                "with a lower rate, such as --resume --set optimiser.rate="
                f"{self.recipe.optimiser.rate / 2:g}"
            )
        self.optimiser.step()

    def averaged_state(self) -> dict[str, Tensor]:
        """The averaged weights (the weights as they are, without averaging), gathered."""
        with self.average.applied() if self.average else nullcontext():
            state = distributed.network_state(self.network, self.accelerator)
            state = {name: tensor.detach().clone() for name, tensor in state.items()}
        distributed.broadcast_statistics(state, self.accelerator)
        return state

    def network_of(self, state: dict[str, Tensor]) -> BiRefNet:
        """A network with these very tensors, for validation and saving."""
        network = empty_network(self.bare.config)
        assign_weights(network, state, label="the trained network")
        return network.requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` continues from, gathered from all processes."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "network": distributed.network_state(self.network, self.accelerator),
            "average": self.averaged_state() if self.average else None,
            "optimiser": distributed.optimiser_state(
                self.network, self._inner_optimiser(), self.accelerator
            ),
            "scaler": scaler.state_dict() if scaler else None,
            "adversary": self.adversary.state_dict() if self.adversary else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; learning rates are those of the recipe."""
        accelerator = self.accelerator
        try:
            if self.average:
                first = state["average"] or state["network"]
                distributed.load_network_state(self.network, first, accelerator)
                self.average.reset()
            distributed.load_network_state(self.network, state["network"], accelerator)
            optimiser = self._inner_optimiser()
            fresh = [dict(group) for group in optimiser.param_groups]
            distributed.load_optimiser_state(
                self.network, optimiser, state["optimiser"], accelerator
            )
        except (RuntimeError, ValueError, KeyError) as failure:
            reason = str(failure).strip().splitlines()[-1].strip()
            raise TrainingError(
                f"the saved state does not fit this recipe ({reason}); resume with the network, "
                "optimiser and frozen parts that the run was started with"
            ) from None
        for group, original in zip(optimiser.param_groups, fresh, strict=True):
            group.update({k: v for k, v in original.items() if k != "params"})
        if accelerator.scaler and state["scaler"]:
            accelerator.scaler.load_state_dict(state["scaler"])
        if self.adversary and state["adversary"]:
            self.adversary.load_state_dict(state["adversary"])
        self.step = state["step"]

    def _inner_optimiser(self) -> torch.optim.Optimizer:
        return getattr(self.optimiser, "optimizer", self.optimiser)
