"""The training loop: one device or many, exact resuming, validation, the best weights kept.

A run is a function of its recipe and data: samples, dropout and learning rate depend on the number
of the step alone. So a state file holds tensors and a step, and resuming needs nothing else.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birefnet.errors import counted, needs_extra

with needs_extra("torch", "birefnet.training.loop"):
    import torch
    from torch import Tensor, nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.simplify import simplify
from birefnet.training import distributed
from birefnet.training.batches import TrainingData, batches, fitting_workers
from birefnet.training.data.batch import Batch
from birefnet.training.interrupt import Interruptible
from birefnet.training.learner import Learner, TrainingError
from birefnet.training.pace import Pace
from birefnet.training.progress import Report, Terminal
from birefnet.training.recipe import Recipe
from birefnet.training.run_folder import RunFolder
from birefnet.training.schedule import Plan
from birefnet.training.validation import Levels, Validator, write_previews
from birefnet.weights.save import save_directory

if TYPE_CHECKING:
    from accelerate import Accelerator

    from birefnet.imaging.geometry import Preprocess


@dataclass(frozen=True)
class ModelInfo:
    """The facts that are written beside the weights.

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
        preprocess: how pictures are prepared, stored with the weights; with the mean and deviation
            of `data`.
        run: where to write, or `None` to write nothing.
        validator: how to watch, or `None`.
        accelerator: made from the recipe where none is given.
        display: where to say how it goes.
        model_info: what is written beside the weights.

    Raises:
        TrainingError: the data are normalised otherwise.
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
        display: Terminal | None = None,
        model_info: ModelInfo | None = None,
    ) -> None:
        trained = getattr(data, "preprocess", preprocess)
        if (trained.mean, trained.std) != (preprocess.mean, preprocess.std):
            raise TrainingError(
                f"the data are normalised by mean {trained.mean} and deviation {trained.std}, and "
                f"the model is written with {preprocess.mean} and {preprocess.std}; give both one "
                "Preprocess"
            )
        self.recipe = recipe
        self.data = data
        self.preprocess = preprocess
        self.run_folder = run
        self.validator = validator
        self.accelerator = accelerator or distributed.make_accelerator(recipe.loop)
        self.display = display if display and self.is_main else Terminal()
        self.model_info = model_info or ModelInfo(recipe.name)
        self.plan = Plan(recipe.schedule, data.epoch_length, self.accelerator.num_processes)
        self.learner = Learner(recipe, network, data, self.plan, self.accelerator)
        self.baseline: float | None = None
        self.best: float | None = None
        self.best_step = 0
        self._validated_step: int | None = None
        self._validations: list[int] | None = None
        self._saved: tuple[int, int] | None = None
        self._interrupt = Interruptible()
        self._pace = Pace()

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return self.accelerator.device

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.learner.step

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.accelerator.is_main_process

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
        window = _Window(self.learner.mean_over_processes)
        # Asked before the first step too: validation of the start may have taken long.
        while not self._in_any_process(self._interrupt.signal is not None) and self.step < last:
            since = time.monotonic()
            losses = self.update(next(stream))
            window.add(losses, self.plan.pictures_per_step)
            is_logged = self.step % self.recipe.loop.log_every == 0 or self.step == last
            if is_logged:
                report = self._report(window)
                vitals = ("epoch", "rate", "pictures_per_second", "memory")
                self._log({**report.losses, **{name: getattr(report, name) for name in vitals}})
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

    def update(self, parts: list[tuple[int, Batch]]) -> dict[str, Tensor]:
        """One step of the optimiser, see `Learner.update`."""
        return self.learner.update(parts)

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
        self.display.say(
            f"step {self.step}: validating on {counted(len(self.validator), 'picture')} …"
        )
        since = time.monotonic()
        network = self.learner.network_of(self.learner.averaged_state())
        simplified: nn.Module = simplify(network).to(self.device)
        with self.accelerator.autocast():
            scored, previews = self.validator.run(
                simplified.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
                self.preprocess,
                self.device,
                rank=self.accelerator.process_index,
                processes=self.accelerator.num_processes,
                stop=lambda: self._interrupt.signal is not None,
            )
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            scored = gather_object(scored)
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
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        note = " (the start)" if self.step == 0 else " (best so far)" if is_best else ""
        self.display.say(f"step {self.step}: {shown}{note}")
        self._log({f"validation/{name}": value for name, value in scores.items()})
        self._show(previews)
        if is_best:
            self.save()  # best/ and the score that it was chosen by belong together
        return scores

    # Writing

    def _write_model(
        self, folder: Path, network: BiRefNet, scores: dict[str, float] | None
    ) -> None:
        training: dict[str, object] = {
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
            network = self.learner.network_of(state["average"] or state["network"])
            self._write_model(self.run_folder.last, network, None)
        self._saved = (self.step, self.best_step)
        self._pace.saved(time.monotonic() - since)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and texts that `load_state_dict` continues from; gathered."""
        return {
            **self.learner.state_dict(),
            "preprocess": self.preprocess.to_dict(),
            "baseline": self.baseline,
            "best": self.best,
            "best_step": self.best_step,
            "validated_step": self._validated_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; learning rates are those of this trainer's recipe."""
        self.learner.load_state_dict(state)
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

    # Reports

    def _report(self, window: _Window) -> Report:
        return Report(
            step=self.step,
            steps=self.plan.steps,
            epoch=self.plan.epoch(self.step - 1) + 1,
            epochs=self.plan.epochs,
            losses=window.means(),
            rate=self.learner.rate * self.plan.factor(self.step - 1),
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

    def _log(self, values: dict[str, float]) -> None:
        """To metrics.jsonl and the trackers; all processes call it, one writes."""
        if self.run_folder is None:
            return
        if self.is_main:
            self.run_folder.append_metrics({"step": self.step, **values})
        if self.accelerator.trackers:
            self.accelerator.log(values, step=self.step)

    def _show(self, previews: list[Levels]) -> None:
        if self.run_folder is None or not previews or not self.is_main:
            return
        write_previews(previews, self.run_folder.previews / f"step-{self.step:07d}.png")
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                images = {f"preview/{i}": one[None] for i, one in enumerate(previews)}
                arguments = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images(images, step=self.step, **arguments)


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
