"""Accelerate for the loop: the device, processes, and whole states of sharded networks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from birefnet.errors import DeviceError, MissingExtraError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.training.recipe import LoopSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(
    settings: LoopSettings, device: str = "auto", *, folder: str | None = None
) -> Accelerator:
    """The one object that knows devices, processes, precision and trackers.

    Started by `accelerate launch` or `torchrun`, it joins the other processes; the choices of
    `accelerate config` hold where the recipe says `auto`.

    Args:
        settings: precision, trackers, determinism.
        device: auto, cpu, cuda, cuda:1 or mps, for a single process.
        folder: of the run, where trackers write.

    Raises:
        MissingExtraError: accelerate, or a tracker, is not installed.
        DeviceError: no such device, or it lacks the precision.
    """
    with needs_extra("train", "training"):
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
        from accelerate.utils import ProjectConfiguration
    from birefnet.inference.engines.devices import resolve_device

    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    target = resolve_device(device)
    if is_alone:
        # accelerate keeps the first choice of a process; here each run has its own.
        AcceleratorState._reset_state(reset_partial_state=True)
        if device != "auto":
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(target)
    accelerator = Accelerator(
        mixed_precision=_mixed_precision(settings, target),
        cpu=target.type == "cpu",
        log_with=_trackers(settings) if folder else None,
        project_config=ProjectConfiguration(folder, f"{folder}/logs") if folder else None,
        kwargs_handlers=[DistributedDataParallelKwargs()],  # see `expect_unused`
    )
    if accelerator.device.type == "cuda":
        torch.backends.cudnn.benchmark = not settings.deterministic
        if not settings.deterministic:
            torch.set_float32_matmul_precision("high")
    if settings.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    return accelerator


def _mixed_precision(settings: LoopSettings, device: torch.device) -> str | None:
    if settings.precision != "auto":
        if settings.precision == "fp16" and device.type == "cpu":
            raise DeviceError(
                "loop.precision is fp16, which CPUs do not train in; choose bf16, fp32 or auto"
            )
        return _MIXED[settings.precision]
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None  # as `accelerate launch` was told
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "no"


def _trackers(settings: LoopSettings) -> list[str] | None:
    from accelerate.tracking import get_available_trackers

    available = {str(one) for one in get_available_trackers()}
    for name in settings.trackers:
        if name not in available:
            raise MissingExtraError(f"the tracker {name} (loop.trackers)", "train")
    return list(settings.trackers) or None


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether no process holds the whole network (FSDP)."""
    return str(accelerator.distributed_type).endswith("FSDP")


def prepare_for_sharding() -> None:
    """Let FSDP find the tensors in a network's output, to whose gradients it attaches itself."""
    from torch.utils import _pytree

    from birefnet.network.birefnet import SupervisedOutput

    if SupervisedOutput not in _pytree.SUPPORTED_NODES:
        torch.export.register_dataclass(SupervisedOutput)


def expect_unused(accelerator: Accelerator, is_expected: bool) -> None:
    """Let DistributedDataParallel look for weights without a gradient in every step, or not."""
    handler = accelerator.ddp_handler
    if handler is not None:
        handler.find_unused_parameters = is_expected


def plain_network(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def network_state(network: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """All weights and statistics, gathered, by their plain names; every process calls it."""
    if not is_sharded(accelerator):
        return plain_network(network).state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True))
    return {name: whole(cast(Tensor, tensor)) for name, tensor in state.items()}


def load_network_state(
    network: nn.Module, state: Mapping[str, Tensor], accelerator: Accelerator
) -> None:
    """The inverse of `network_state`; every process passes the whole state."""
    if not is_sharded(accelerator):
        plain_network(network).load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(network, dict(state), options=StateDictOptions(full_state_dict=True))


def optimiser_state(
    network: nn.Module, optimiser: torch.optim.Optimizer, accelerator: Accelerator
) -> dict[str, Any]:
    """The optimiser's whole state; every process calls it."""
    if not is_sharded(accelerator):
        return optimiser.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    return get_optimizer_state_dict(
        network, optimiser, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )


def load_optimiser_state(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
    accelerator: Accelerator,
) -> None:
    """The inverse of `optimiser_state`; every process passes the whole state."""
    if not is_sharded(accelerator):
        optimiser.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(network, optimiser, state, options=options)


def whole(tensor: Tensor) -> Tensor:
    """A tensor's value, gathered if it is sharded; every process calls it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def broadcast_statistics(state: Mapping[str, Tensor], accelerator: Accelerator) -> None:
    """Give all processes the first one's BatchNorm statistics: each has seen other pictures."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast

    for name, tensor in state.items():
        if name.endswith((".running_mean", ".running_var", ".num_batches_tracked")):
            tensor.copy_(broadcast(tensor.clone()))
