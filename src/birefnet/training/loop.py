"""The training loop: schedule, frozen parts, weight averaging, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from birefnet.network.birefnet import BiRefNet
from birefnet.training.objective import Objective


@dataclass(frozen=True)
class Phase:
    """A part of a run at one picture size [px]."""

    steps: int
    size: int


@dataclass(frozen=True)
class Schedule:
    """How the weights move.

    Attributes:
        phases: one after the other; the learning rate follows one cosine over all of them.
        batch_size: pictures a step.
        decoder_rate, encoder_rate: peak learning rates.
        offset_factor: of the decoder's rate, for offsets and modulation of deformable convolutions.
        frozen_blocks: the backbone's stem and so many blocks keep their weights.
        warmup: steps until the peak.
        last_factor: of the peak, at the end.
        weight_decay: of AdamW, on matrices only.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights; less at the start.
        seed: of the data, dropout and new weights.
    """

    phases: tuple[Phase, ...] = (Phase(1500, 256), Phase(400, 320))
    batch_size: int = 16
    decoder_rate: float = 2e-3
    encoder_rate: float = 2e-4
    offset_factor: float = 0.2
    frozen_blocks: int = 5
    warmup: int = 60
    last_factor: float = 0.02
    weight_decay: float = 0.02
    clip: float = 5.0
    ema_decay: float = 0.997
    seed: int = 1

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return sum(phase.steps for phase in self.phases)

    def factor(self, step: int) -> float:
        """Of the peak learning rate at `step`: linear warm-up, then a cosine."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.last_factor + (1 - self.last_factor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Trainer:
    """State of one run: network, its average, optimiser, step.

    Args:
        network: trained in place.
        schedule, objective: what to do.
        make_dataset: (picture size, seed) → samples by number, picture and truth, uint8.
        mean, std: normalisation of pictures in [0, 1].
        workers: processes that prepare samples.
    """

    network: BiRefNet
    schedule: Schedule
    objective: Objective
    make_dataset: Callable[[int, int], Dataset[tuple[Tensor, Tensor]]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    workers: int = 1
    step: int = 0
    average: BiRefNet = field(init=False)
    optimiser: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        freeze(self.network, self.schedule.frozen_blocks)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(parameter_groups(self.network, self.schedule))
        self._mean = torch.tensor(self.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(self.std).view(1, 3, 1, 1)

    def run(
        self,
        *,
        until: int | None = None,
        every: int = 20,
        report: Callable[[Trainer, dict[str, float]], None] = lambda trainer, values: None,
        after_step: Callable[[Trainer], None] = lambda trainer: None,
    ) -> None:
        """Train to the end of the schedule, or to step `until`.

        `report` gets the averages of the loss terms and `pictures_per_second` every so many steps;
        `after_step` is called after each step, e.g. to save or validate.
        """
        last = self.schedule.steps if until is None else min(until, self.schedule.steps)
        first_of_phase = 0
        for phase in self.schedule.phases:
            end = min(first_of_phase + phase.steps, last)
            if self.step < end:
                self._run_phase(phase.size, end, every, report, after_step)
            first_of_phase += phase.steps

    def _run_phase(
        self,
        size: int,
        end: int,
        every: int,
        report: Callable[[Trainer, dict[str, float]], None],
        after_step: Callable[[Trainer], None],
    ) -> None:
        batch = self.schedule.batch_size
        loader = DataLoader(
            self.make_dataset(size, self.schedule.seed),
            batch_size=batch,
            sampler=range(self.step * batch, end * batch),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            # A fork of a process that has computed with OpenMP can hang in its first operation.
            multiprocessing_context="spawn" if self.workers else None,
        )
        sums: dict[str, float] = defaultdict(float)
        count, started = 0, time.perf_counter()
        for pixels, mask in loader:
            for name, value in self.update(pixels, mask).items():
                sums[name] += value
            count += 1
            if self.step % every == 0 or self.step == end:
                means = {name: value / count for name, value in sums.items()}
                elapsed = time.perf_counter() - started
                report(self, {**means, "pictures_per_second": count * batch / elapsed})
                sums.clear()
                count = 0
                after_step(self)
                started = time.perf_counter()
            else:
                after_step(self)

    def update(self, pixels: Tensor, mask: Tensor) -> dict[str, float]:
        """One step on uint8 `pixels` (B,3,H,W) and `mask` (B,1,H,W); the parts of its loss."""
        image = (pixels.float() / 255 - self._mean) / self._std
        image = image.contiguous(memory_format=torch.channels_last)
        truth = mask.float() / 255
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.schedule.factor(self.step)
        train_mode(self.network)
        # Dropout is a function of seed and step, so a resumed run draws the same.
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
        loss, parts = self.objective(self.network(image, supervised=True), image, truth)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of step {self.step} is not finite; lower the learning rate"
            )
        self.optimiser.step()
        self.step += 1
        self._average()
        return {"loss": float(loss.detach()), **parts}

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.schedule.ema_decay, self.step / (self.step + 10))
        state = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(state[name], 1 - decay)
            else:
                kept.copy_(state[name])

    def save(self, path: Path) -> None:
        """Write everything that resuming needs; a crash leaves the file before it or after it."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Continue from a file of `save`.

        Raises:
            ValueError: there is no such file.
        """
        if not path.is_file():
            raise ValueError(f"no checkpoint at {path}; start the run without resuming it")
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        peaks = [group["peak"] for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state["optimiser"])
        for group, peak in zip(self.optimiser.param_groups, peaks, strict=True):
            group["peak"] = peak
        self.step = state["step"]


def freeze(network: BiRefNet, blocks: int) -> None:
    """Keep the weights of the backbone's stem and first `blocks`, and of all its BatchNorms."""
    backbone: Any = network.encoder.backbone
    if blocks:
        backbone.stem.requires_grad_(False)
        for block in backbone.blocks[:blocks]:
            block.requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)


def train_mode(network: BiRefNet) -> None:
    """Training mode, but for the backbone, whose BatchNorms keep their ImageNet statistics."""
    network.train()
    network.encoder.backbone.eval()


def parameter_groups(network: BiRefNet, schedule: Schedule) -> list[dict[str, Any]]:
    """Groups for the optimiser: encoder, decoder, offsets; each with and without weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = schedule.decoder_rate
        if name.startswith("encoder."):
            rate = schedule.encoder_rate
        elif ".offset." in name or ".modulator." in name:
            rate *= schedule.offset_factor
        decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
        groups[rate, decay].append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
