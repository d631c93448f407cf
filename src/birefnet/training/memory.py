"""How much memory a step needs, measured before the first one at small sizes.

What a network keeps for its backward pass grows linearly with the pixels; two small pictures give
the line. On a GPU the allocator's own peak is measured; elsewhere the kept tensors are counted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from birefnet.errors import counted, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.network.birefnet import BiRefNet
from birefnet.training import freezing
from birefnet.training.objective import Objective
from birefnet.training.recipe import Recipe

_SIZES = (128, 256)  # px, of the two measurements
_ONE_IS_TOO_MUCH = (
    "even one picture at a time is too much: add --set loop.checkpoint_activations=true, "
    "--set loop.precision=bf16, or make pictures smaller with --set data.width=512 "
    "--set data.height=512"
)
_WORKSPACE = 1.15  # what passes by beside what is kept: gradients of maps, inputs of products


@dataclass(frozen=True)
class Estimate:
    """Memory of a step, in bytes.

    Attributes:
        fixed: weights, gradients, optimiser, averages.
        per_picture: what one picture keeps for the backward pass.
        batch_size, accumulate: as the recipe has them.
        available: free on the device, or `None` if unknown.
    """

    fixed: int
    per_picture: int
    batch_size: int
    accumulate: int
    available: int | None

    def total(self, batch_size: int | None = None) -> int:
        """Of a step with parts of `batch_size` pictures."""
        return self.fixed + self.per_picture * (batch_size or self.batch_size)

    @property
    def fits(self) -> bool:
        """Whether the device seems to have room."""
        return self.available is None or self.total() <= self.available

    def smaller(self) -> tuple[int, int] | None:
        """Batch size and accumulation that make the same step and fit; `None` if none does."""
        pictures = self.batch_size * self.accumulate
        for batch_size in range(self.batch_size, 0, -1):
            if pictures % batch_size == 0 and self.total(batch_size) <= (self.available or 0):
                return batch_size, pictures // batch_size
        return None

    def text(self) -> str:
        """In one line, with what to change if it does not fit."""
        pictures = counted(self.batch_size, "picture")
        needed = f"a step with {pictures} at a time needs about {_gb(self.total())}"
        if self.available is None:
            return needed
        needed += f" of {_gb(self.available)} free"
        return needed if self.fits else f"{needed}; {self.cure()}"

    def cure(self) -> str:
        """Advice where it does not fit."""
        smaller = self.smaller()
        if smaller is None:
            return _ONE_IS_TOO_MUCH
        return (
            "train the same with --set schedule.batch_size="
            f"{smaller[0]} --set schedule.accumulate={smaller[1]}"
        )


def estimate(recipe: Recipe, network: BiRefNet, device: torch.device, dtype: str) -> Estimate:
    """Measure what a step of `recipe` would need.

    Args:
        recipe: batch size, picture size, what is frozen and checkpointed.
        network: it is copied, not changed.
        device: where it will be trained.
        dtype: `no`, `bf16` or `fp16`: mixed precision.
    """
    available = available_memory(device)  # before the probe takes its share
    probe = copy.deepcopy(network).to(device)
    loop = recipe.loop
    freezing.freeze(probe, loop)
    freezing.checkpoint_activations(probe, loop.checkpoint_activations)
    freezing.train_mode(probe, loop)
    # Without phases: they count epochs, and none needs more than the terms of the first epoch.
    objective = Objective(replace(recipe.loss, adversarial=0.0, phases=()))
    measure = partial(_peak, device) if device.type == "cuda" else _kept
    small, large = (
        measure(partial(_loss, probe, objective, size, device, dtype)) for size in _SIZES
    )
    pixels = [size * size for size in _SIZES]
    slope = (large - small) / (pixels[1] - pixels[0])
    data = recipe.data
    width = max(data.dynamic_width or (data.width,))
    height = max(data.dynamic_height or (data.height,))
    per_picture = max(0.0, small + slope * (width * height - pixels[0]))
    schedule = recipe.schedule
    return Estimate(
        fixed=_fixed(probe, recipe),
        per_picture=int(per_picture * (1 if device.type == "cuda" else _WORKSPACE)),
        batch_size=schedule.batch_size,
        accumulate=schedule.accumulate,
        available=available,
    )


def _loss(
    network: BiRefNet, objective: Objective, size: int, device: torch.device, dtype: str
) -> Tensor:
    image = torch.randn(1, 3, size, size, device=device)
    truth = torch.rand(1, 1, size, size, device=device)
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}
    with torch.autocast(device.type, mixed.get(dtype, torch.bfloat16), enabled=dtype in mixed):
        output = network(image, supervised=True)
    return objective(output, image, truth)[0]


def _peak(device: torch.device, loss: Callable[[], Tensor]) -> int:
    """Bytes that a GPU holds at most during a forward and backward pass, beside what was there.

    A first pass leaves the gradients of the weights there: they belong to `_fixed`.
    """
    loss().backward()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    loss().backward()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def _kept(loss: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward one, parameters aside."""
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        # Detached: an operation that keeps its own result, history and all, would never be freed.
        plain = tensor.detach()
        if not isinstance(tensor, nn.Parameter):
            storage = plain.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(plain)
        return plain

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = loss()
    del kept
    return sum(seen.values())


def _fixed(network: BiRefNet, recipe: Recipe) -> int:
    """Weights, the copy for validation, their average, gradients and the optimiser's moments."""
    everything = sum(p.numel() * p.element_size() for p in network.parameters())
    learning = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    copies = 3 if recipe.schedule.ema else 2
    moments = 1 if recipe.optimiser.name == "sgd" else 2
    return copies * everything + (1 + moments) * learning


def available_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; in a container no more than it may use.

    On a GPU, what PyTorch keeps for its next tensors counts as free.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type != "cpu":
        return None
    import psutil  # type: ignore[import-untyped]  # comes with accelerate

    free = int(psutil.virtual_memory().available)
    limit, used = (
        _number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current")
    )
    return free if limit is None or used is None else min(free, limit - used)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _gb(size: int) -> str:
    return f"{size / 2**30:.1f} GB"


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether a failure means that the device's memory is full."""
    return isinstance(failure, torch.OutOfMemoryError) or (
        isinstance(failure, RuntimeError) and "not enough memory" in str(failure)
    )


def out_of_memory(recipe: Recipe, device: torch.device) -> str:
    """One sentence with the cure."""
    schedule = recipe.schedule
    start = f"{device} ran out of memory with {counted(schedule.batch_size, 'picture')} at a time"
    if schedule.batch_size == 1:
        return f"{start}; {_ONE_IS_TOO_MUCH}"
    half = schedule.batch_size // 2
    pictures = schedule.batch_size * schedule.accumulate
    return (
        f"{start}; continue with --resume --set schedule.batch_size={half} "
        f"--set schedule.accumulate={-(-pictures // half)}"
    )
