"""The training loop: one device or many, exact resuming, validation, the best weights kept.

A run is a function of its recipe and data: samples, dropout and learning rate depend on the number
of the step alone. So a state file holds tensors and a step, and resuming needs nothing else.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from birefnet.errors import BiRefNetError, MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError:
    raise MissingExtraError("birefnet.training.loop", "torch") from None

from birefnet.network.birefnet import BiRefNet
from birefnet.network.guidance import PICTURE_CHANNELS
from birefnet.network.simplify import simplify
from birefnet.training import distributed, freezing, optim
from birefnet.training.adversary import Adversary
from birefnet.training.average import Average
from birefnet.training.batches import TrainingData, batches, fitting_workers
from birefnet.training.interrupt import Interruptible
from birefnet.training.objective import MAP_TERMS, Objective
from birefnet.training.pace import Pace
from birefnet.training.progress import Display, Report, Silent
from birefnet.training.recipe import Recipe
from birefnet.training.run_folder import RunFolder
from birefnet.training.schedule import Plan
from birefnet.training.validation import Scored, Validator, write_previews
from birefnet.weights.checkpoint import assign_weights
from birefnet.weights.save import save_directory
from birefnet.weights.skeleton import empty_network

if TYPE_CHECKING:
    from accelerate import Accelerator

    from birefnet.imaging.geometry import Preprocess

_SEEDS_APART = 1_000_003  # a prime, so that seeds of different runs do not meet soon
_SMALLEST_SCALE = 1.0  # of fp16 gradients; below it the numbers themselves overflow


class TrainingError(BiRefNetError):
    """A run that cannot go on: the message says why and what to change."""


@dataclass(frozen=True)
class ModelInfo:
    """What is written beside the weights.

    Attributes:
        name: of the model.
        licence: of the weights that the run began with, if known.
        source: what the weights are from.
    """

    name: str
    licence: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: done.
        baseline: score of the weights it began with, or `None` without validation.
        best: best score, or `None` without validation.
        best_step: after which it was reached; 0 is the start.
        signal: of the interruption that ended it early, or `None`.
    """

    step: int
    baseline: float | None
    best: float | None
    best_step: int
    signal: int | None = None


class Trainer:
    """One run: a network on its way from the first step to the last.

    Args:
        recipe: what to do.
        network: trained in place.
        data: what it is trained on.
        preprocess: how pictures are prepared, stored with the weights; that of `data` and
            `validator`, or what is measured would not be what is written.
        run: where to write, or `None` to write nothing.
        validator: how to watch, or `None`.
        accelerator: made from the recipe where none is given.
        display: where to say how it goes.
        model_info: what is written beside the weights.

    Raises:
        TrainingError: data or validator prepare pictures otherwise.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: BiRefNet,
        data: TrainingData,
        preprocess: Preprocess,
        *,
        run: RunFolder | None = None,
        validator: Validator | None = None,
        accelerator: Accelerator | None = None,
        display: Display | None = None,
        model_info: ModelInfo | None = None,
    ) -> None:
        _agree(preprocess, data, validator)
        self.recipe = recipe
        self.data = data
        self.preprocess = preprocess
        self.run_folder = run
        self.validator = validator
        self.accelerator = accelerator or distributed.make_accelerator(recipe.loop)
        self.display: Display = display if display and self.is_main else Silent()
        self.model_info = model_info or ModelInfo(recipe.name)
        self.plan = Plan(recipe.schedule, data.epoch_length, self.accelerator.num_processes)
        self.objective = Objective(recipe.loss, epochs=self.plan.epochs)
        self.step = 0
        self.baseline: float | None = None
        self.best: float | None = None
        self.best_step = 0
        self._validated_step: int | None = None
        self._validations: list[int] | None = None
        self._saved: tuple[int, int] | None = None
        self._interrupt = Interruptible()
        self._pace = Pace()
        self._prepare(network)

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.accelerator.is_main_process

    def _prepare(self, network: BiRefNet) -> None:
        recipe, loop = self.recipe, self.recipe.loop
        self.bare = network
        """The network without wrappers; under FSDP its tensors are shards."""
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
            self.adversary = Adversary(recipe.loss, rate, self.device, self._mean)

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

    # The run

    def run(self, *, until: int | None = None) -> Outcome:
        """Train to the end of the schedule, or to step `until`.

        SIGINT and SIGTERM end it after the step under way, with everything saved.

        Raises:
            TrainingError: the gradient is no longer finite.
        """
        last = self.plan.steps if until is None else min(until, self.plan.steps)
        with self._interrupt:
            self.display.start(self.step, self.plan.steps)
            try:
                self._run(last)
            finally:
                self.display.close()
        return Outcome(self.step, self.baseline, self.best, self.best_step, self._interrupt.signal)

    def _run(self, last: int) -> None:
        self._pace = Pace()
        if self._is_validation_due():
            self.validate()
        if self.step == 0:
            self.save()  # from here on the run can be resumed, whatever happens
        workers = self.recipe.loop.workers
        if workers is None:
            workers = fitting_workers(self.accelerator.num_processes)
        stream = batches(
            self.data,
            self.plan,
            rank=self.accelerator.process_index,
            first=self.step,
            last=last,
            workers=workers,
            pinned=self.device.type == "cuda",
        )
        window = _Window(self._mean)
        # Asked before the first step too: validation of the start may have taken long.
        while not self._is_interrupted() and self.step < last:
            since = time.monotonic()
            losses = self.update(next(stream))
            window.add(losses, self.plan.pictures_per_step)
            is_logged = self.step % self.recipe.loop.log_every == 0 or self.step == last
            if is_logged:
                report = self._report(window)
                self._log({**report.losses, **self._vitals(report)})
                self.display.report(report)
                window.clear()
            elif self.accelerator.num_processes == 1 and self.display.wants_report():
                self.display.report(self._report(window))
            window.pause()
            self._pace.stepped(time.monotonic() - since)
            if self._is_validation_due():
                self.validate()
            if self._is_save_due():
                self.save()
            window.go_on()
        self.save()

    def update(self, parts: list[tuple[int, Any]]) -> dict[str, Tensor]:
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
            with self._synchronised(index == len(parts) - 1):
                for name, value in self._part(part, samples, epoch, len(parts)).items():
                    sums[name] += value / len(parts)
        self._make_step()
        self.step += 1
        if self.average:
            self.average.update(self.step)
        return dict(sums)

    def _part(self, part: int, samples: Any, epoch: int, parts: int) -> dict[str, Tensor]:
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
                f"{len(image)} picture of {image.shape[3]} x {image.shape[2]} at a time leaves a "
                "BatchNorm a single value; train two at a time (schedule.batch_size=2), larger "
                "pictures, or freeze the norms (loop.batch_norm=frozen, "
                "loop.frozen_encoder_norms=true)"
            ) from None
        picture = image[:, :PICTURE_CHANNELS]  # without guidance
        loss, losses = self.objective(
            output,
            picture,
            batch.truth,
            epoch=epoch,
            classes=batch.labels,
            weight=batch.weight,
            discriminator=self.adversary.discriminator if self.adversary else None,
        )
        self.accelerator.backward(loss / parts)
        if self.adversary:
            self.adversary.update(part, picture, output.logits, batch.truth)
        return {"loss": loss.detach(), **losses}

    def _synchronised(self, is_last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over the processes once per step, in its last part."""
        return nullcontext() if is_last else self.accelerator.no_sync(self.network)

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

    def _is_interrupted(self) -> bool:
        return self._in_any_process(self._interrupt.signal is not None)

    def _is_save_due(self) -> bool:
        loop = self.recipe.loop
        is_due = self.step % loop.save_every == 0 or self._pace.is_save_due(loop.save_minutes)
        return self._in_any_process(is_due)

    def _in_any_process(self, flag: bool) -> bool:
        """Whether `flag` is set in one of the processes, so that all do the same after a step."""
        if self.accelerator.num_processes == 1:
            return flag
        if flag:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    # Watching

    def _is_validation_due(self) -> bool:
        every = self.recipe.validation.every
        return (
            self.validator is not None
            and self._validated_step != self.step
            and self.plan.validates_after(self.step, every)
        )

    def validate(self) -> dict[str, float]:
        """Score the averaged weights, and keep them as `best` where they are the best so far.

        Returns:
            The means by name; empty if an interruption cut the validation short.
        """
        assert self.validator is not None
        self.display.say(f"step {self.step}: validating on {len(self.validator)} pictures …")
        since = time.monotonic()
        network = self._network_of(self._averaged_state())
        with self.accelerator.autocast():
            scored, previews = self.validator.run(
                _for_inference(network, self.device),
                self.device,
                rank=self.accelerator.process_index,
                processes=self.accelerator.num_processes,
                stop=lambda: self._interrupt.signal is not None,
            )
        scored = self._gathered(scored)
        if len(scored) < len(self.validator):
            return {}
        scores = self.validator.summary(scored)
        self._validated_step = self.step
        score = scores[self.validator.best_by]
        if self.baseline is None:
            self.baseline = score
        is_best = self.best is None or self.validator.is_better(score, self.best)
        if is_best:
            self.best, self.best_step = score, self.step
            if self.run_folder and self.is_main:
                self._write_model(self.run_folder.best, network, scores)
        self._pace.validated(time.monotonic() - since)
        self._say_scores(scores, is_best)
        self._log({f"validation/{name}": value for name, value in scores.items()})
        self._show(previews)
        if is_best:
            self.save()  # best/ and the score that it was chosen by belong together
        return scores

    def _say_scores(self, scores: dict[str, float], is_best: bool) -> None:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        note = " (the start)" if self.step == 0 else " (best so far)" if is_best else ""
        self.display.say(f"step {self.step}: {shown}{note}")

    def _gathered(self, scored: list[Scored]) -> list[Scored]:
        if self.accelerator.num_processes == 1:
            return scored
        from accelerate.utils import gather_object

        return gather_object(scored)

    def _averaged_state(self) -> dict[str, Tensor]:
        """The averaged weights (the weights as they are, without averaging), gathered."""
        with self.average.applied() if self.average else nullcontext():
            state = distributed.network_state(self.network, self.accelerator)
            state = {name: tensor.detach().clone() for name, tensor in state.items()}
        distributed.broadcast_statistics(state, self.accelerator)
        return state

    def _network_of(self, state: dict[str, Tensor]) -> BiRefNet:
        """A network with these very tensors, for validation and saving."""
        network = empty_network(self.bare.config)
        assign_weights(network, state, label="the trained network")
        return network.requires_grad_(False)

    # Writing

    def _write_model(self, folder: Any, network: BiRefNet, scores: dict[str, float] | None) -> None:
        training: dict[str, Any] = {
            "recipe": self.recipe.name,
            "variant": self.recipe.variant,
            "step": self.step,
            "steps": self.plan.steps,
        }
        save_directory(
            folder,
            network,
            self.preprocess,
            name=self.model_info.name,
            licence=self.model_info.licence,
            source=self.model_info.source,
            extra={"training": training if scores is None else {**training, "scores": scores}},
        )

    def save(self) -> None:
        """Write all that resuming needs, and the averaged weights as a model in `last`."""
        if self.run_folder is None or self._saved == (self.step, self.best_step):
            return
        since = time.monotonic()
        state = self.state_dict()
        if self.is_main:
            self.run_folder.save_state(state)
            network = self._network_of(state["average"] or state["network"])
            self._write_model(self.run_folder.last, network, None)
        self._saved = (self.step, self.best_step)
        self._pace.saved(time.monotonic() - since)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and texts that `load_state_dict` continues from; gathered."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "preprocess": self.preprocess.to_dict(),
            "network": distributed.network_state(self.network, self.accelerator),
            "average": self._averaged_state() if self.average else None,
            "optimiser": distributed.optimiser_state(
                self.network, self._inner_optimiser(), self.accelerator
            ),
            "scaler": scaler.state_dict() if scaler else None,
            "adversary": self.adversary.state_dict() if self.adversary else None,
            "baseline": self.baseline,
            "best": self.best,
            "best_step": self.best_step,
            "validated_step": self._validated_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; learning rates are those of this trainer's recipe."""
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
        self.baseline, self.best = state["baseline"], state["best"]
        self.best_step = state["best_step"]
        self._validated_step = state["validated_step"]

    def resume(self) -> None:
        """Continue from the run folder's state.

        Raises:
            RunError: there is none.
            TrainingError: it does not fit the recipe.
        """
        assert self.run_folder is not None
        self.load_state_dict(self.run_folder.load_state())
        self._saved = (self.step, self.best_step)
        if self.is_main:
            self.run_folder.forget_metrics_after(self.step)

    def _inner_optimiser(self) -> torch.optim.Optimizer:
        return getattr(self.optimiser, "optimizer", self.optimiser)

    # Reports

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(value, "mean")

    def _report(self, window: _Window) -> Report:
        return Report(
            step=self.step,
            steps=self.plan.steps,
            epoch=self.plan.epoch(self.step - 1) + 1,
            epochs=self.plan.epochs,
            losses=window.means(),
            rate=self.rate * self.plan.factor(self.step - 1),
            pictures_per_second=window.pictures_per_second(),
            memory=memory_in_use(self.device),
            seconds_left=self._pace.seconds_left(
                self.plan.steps - self.step, self._validations_after(self.step)
            ),
        )

    def _validations_after(self, step: int) -> int:
        if self.validator is None:
            return 0
        if self._validations is None:
            every, steps = self.recipe.validation.every, range(1, self.plan.steps + 1)
            self._validations = [s for s in steps if self.plan.validates_after(s, every)]
        return len(self._validations) - bisect_right(self._validations, step)

    def _vitals(self, report: Report) -> dict[str, float]:
        return {
            "epoch": report.epoch,
            "rate": report.rate,
            "pictures_per_second": report.pictures_per_second,
            "memory": report.memory,
        }

    def _log(self, values: dict[str, float]) -> None:
        """To metrics.jsonl and the trackers; all processes call it, one writes."""
        if self.run_folder is None:
            return
        if self.is_main:
            self.run_folder.append_metrics({"step": self.step, **values})
        if self.accelerator.trackers:
            self.accelerator.log(values, step=self.step)

    def _show(self, previews: list[Any]) -> None:
        if self.run_folder is None or not previews or not self.is_main:
            return
        write_previews(previews, self.run_folder.previews / f"step-{self.step:07d}.png")
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                images = {f"preview/{i}": one[None] for i, one in enumerate(previews)}
                arguments = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images(images, step=self.step, **arguments)


def _agree(written: Preprocess, data: TrainingData, validator: Validator | None) -> None:
    trained = getattr(data, "preprocess", written)
    if (trained.mean, trained.std) != (written.mean, written.std):
        raise TrainingError(
            f"the data are normalised by mean {trained.mean} and deviation {trained.std}, and the "
            f"model is written with {written.mean} and {written.std}; give both one Preprocess"
        )
    if validator is not None and validator.preprocess != written:
        raise TrainingError(
            f"validation uses pictures {validator.preprocess}, and the model is written with "
            f"pictures {written}; give both one Preprocess"
        )


class _Window:
    """Averages over the steps since the last report, and the time that they took."""

    def __init__(self, mean_over_processes: Callable[[Tensor], Tensor]) -> None:
        self._mean = mean_over_processes
        self.clear()

    def clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._pictures = 0
        self._seconds, self._since = 0.0, time.perf_counter()

    def add(self, losses: dict[str, Tensor], pictures: int) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._pictures += pictures

    def pause(self) -> None:
        """Stop the clock: validation and saving are no training."""
        self._seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        self._since = time.perf_counter()

    def means(self) -> dict[str, float]:
        return {name: float(self._mean(total / self._steps)) for name, total in self._sums.items()}

    def pictures_per_second(self) -> float:
        seconds = self._seconds + time.perf_counter() - self._since
        return self._pictures / max(seconds, 1e-9)


def memory_in_use(device: torch.device) -> int:
    """Bytes at the peak on a GPU; what this process holds now, elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import psutil  # type: ignore[import-untyped]  # comes with accelerate

    return int(psutil.Process().memory_info().rss)


def _for_inference(network: BiRefNet, device: torch.device) -> nn.Module:
    simplified: nn.Module = simplify(network).to(device)
    return simplified.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
