"""Runs a network with torch, on any device and precision it has."""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, DeviceError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.inference.engines.base import MOST_CONCURRENT, Engine, call_in_forks, takes_guidance
from birefnet.inference.engines.devices import dtype_name, resolve_device, resolve_dtype
from birefnet.inference.engines.graphs import CudaRecorder, GraphCache, empty_cache
from birefnet.network.birefnet import BiRefNet
from birefnet.network.cpu_optimised import cpu_optimised, is_simplified

# What torch says when an allocation fails; on CUDA and MPS newer versions have a class for it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class TorchEngine:
    """A network on one device.

    Args:
        network: maps a normalised float batch (B,3,H,W) to logits (B,1,H,W). It is put in
            evaluation mode, moved and converted in place, as `nn.Module.to` does. A simplified
            `BiRefNet` is run in the form of `birefnet.network.cpu_optimised`.
        device: auto (CUDA, MPS, CPU, in that order), cpu, cuda, cuda:1, mps …
        dtype: auto (fp16 on CUDA devices that are good at it, fp32 elsewhere), fp32, fp16 or bf16.
            Under auto, a picture whose numbers do not fit fp16 is run once more in fp32.
        channels_last: memory layout of the feature maps; `None` chooses by device: tensor cores
            read channels last, and on a CPU `nano` is 1.3 (320 x 320) to 1.7 times (1024 x 1024) as
            fast with it, while transformers do not mind.
        graphs: record and replay CUDA graphs, see `engines.graphs`; `None` does on CUDA,
            unless BIREFNET_CUDA_GRAPHS=0 in the environment.
        compile: compile the blocks of the network, see `engines.compiled`: the first
            pictures take minutes. Needs what torch.compile needs on the device.

    Attributes:
        run: the network as it runs here, tensor to tensor on the device; where CUDA graphs are used
            its result is overwritten by the next call.
        takes_guidance: whether the network has a guidance channel.

    Raises:
        DeviceError: the device or precision is not there, or graphs are asked for without CUDA.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        channels_last: bool | None = None,
        graphs: bool | None = None,
        compile: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self._may_repeat = dtype == "auto" and self.dtype != torch.float32
        if self._may_repeat and not _fits(network, self.dtype):
            warnings.warn(
                f"the network's weights do not fit {dtype_name(self.dtype)}; it runs in fp32",
                RuntimeWarning,
                stacklevel=2,
            )
            self.dtype, self._may_repeat = torch.float32, False
        self.takes_guidance = isinstance(network, BiRefNet) and network.config.guidance_channel
        if channels_last is None:
            channels_last = self.device.type in ("cuda", "cpu")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        try:
            network.eval().to(self.device, self.dtype)
            if is_simplified(network):
                network = cpu_optimised(network)
            self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        except RuntimeError as error:
            self._explain(error)
        self._exact: nn.Module | None = None  # the network in float32, once it is needed
        self._is_compiled = compile
        if compile:
            from birefnet.inference.engines.compiled import compile_regions

            compile_regions(self.network)
        self.run: Callable[[Tensor], Tensor] = self.network
        if self._wants_graphs(graphs):
            self.run = GraphCache(self.network, CudaRecorder(self.device))
        # A replay writes where the last one did: one batch at a time.
        self._turn = threading.Lock() if self.run is not self.network else nullcontext()
        self.name = f"torch {self.device} {dtype_name(self.dtype)}"
        self.batch_size = 4 if self.device.type == "cuda" else 1
        self._is_forked = False
        call_in_forks(self._after_fork)

    def _after_fork(self) -> None:
        self._is_forked = True

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B,1,H,W], of a normalised batch, float32 [B,3,H,W] or guided.

        Raises:
            DeviceError: not enough memory, or numbers beyond what half precision can hold.
        """
        images = torch.from_numpy(np.ascontiguousarray(batch))
        if self._is_forked:
            go_on_in_fork(self.device)
        try:
            with torch.inference_mode(), self._turn:
                logits = self._pass(images)
                finite = logits.isfinite().flatten(1).all(1)
                if not finite.all() and self._may_repeat:
                    logits[~finite] = self._repeat(images[~finite])
                    finite = logits.isfinite()
        except RuntimeError as error:
            self._explain(error, batch.shape)
        if not finite.all():
            self._refuse_non_finite()
        result: NDArray[np.float32] = logits.numpy()
        return result

    def _pass(self, images: Tensor) -> Tensor:
        """Logits on the host, float32; where memory is short, what is only kept is freed first."""
        try:
            return self.run(images.to(self.device, self.dtype)).float().cpu()
        except RuntimeError as error:
            if self.device.type == "cpu" or not _is_out_of_memory(error):
                raise
        # Behind the exception, which holds on to the tensors of the pass that failed.
        if isinstance(self.run, GraphCache):
            self.run.drop()
        empty_cache(self.device)
        return self.run(images.to(self.device, self.dtype)).float().cpu()

    def _repeat(self, images: Tensor) -> Tensor:
        """Logits in float32 of pictures whose numbers do not fit half precision."""
        if self._exact is None:
            warnings.warn(
                f"the network's numbers do not fit {dtype_name(self.dtype)} for some pictures; "
                "they run once more in fp32. dtype fp32 or bf16 spares the first pass",
                RuntimeWarning,
                stacklevel=3,
            )
            self._exact = copy.deepcopy(self.network).float()
        return self._exact(images.to(self.device)).float().cpu()

    def concurrent(self) -> tuple[Engine, int]:
        """On a CPU, the network for concurrent calls, see `engines.base.concurrent`."""
        if self._is_forked:
            go_on_in_fork(self.device)
        cores = torch.get_num_threads()
        concurrency = min(cores, MOST_CONCURRENT)
        if self.device.type != "cpu" or self._is_compiled or concurrency == 1:
            return self, 1
        return ConcurrentEngine(self, cores // concurrency), concurrency

    def _wants_graphs(self, setting: bool | None) -> bool:
        if self.device.type == "cuda":
            return os.environ.get("BIREFNET_CUDA_GRAPHS") != "0" if setting is None else setting
        if setting:
            raise DeviceError(f"CUDA graphs were asked for, but the network runs on {self.device}")
        return False

    def _explain(self, error: RuntimeError, shape: tuple[int, ...] | None = None) -> NoReturn:
        """Raise the one sentence that fits a failure of torch, or the failure itself."""
        text = str(error).lower()
        if _is_out_of_memory(error):
            if shape is None:
                raise DeviceError(
                    f"{self.device} has not enough memory for this network; use a smaller model, "
                    "or free memory on it"
                ) from None
            cures = ["a smaller resolution", "a smaller model"]
            if shape[0] > 1:
                cures.insert(0, "a smaller batch size")
            if self.dtype == torch.float32 and self.device.type == "cuda":
                cures.insert(0, "dtype fp16")
            raise DeviceError(
                f"{self.device} ran out of memory on a batch of {shape[0]} at "
                f"{shape[3]}x{shape[2]}; use {' or '.join(cures)}"
            ) from None
        if "not implemented for" in text and self.dtype != torch.float32:
            raise DeviceError(
                f"{self.device} cannot run this network in {dtype_name(self.dtype)}; use dtype fp32"
            ) from error
        raise error

    def _refuse_non_finite(self) -> NoReturn:
        if self.dtype == torch.float32 or self._may_repeat:  # then fp32 was tried, too
            raise BiRefNetError(
                "the network gave NaN or infinity in fp32: its weights are damaged; fetch or train "
                "them again"
            )
        other = "fp32 or bf16" if self.dtype == torch.float16 else "fp32"
        raise DeviceError(
            f"the network's numbers do not fit {dtype_name(self.dtype)} (it gave NaN or infinity); "
            f"use dtype {other}"
        )


def go_on_in_fork(device: torch.device) -> None:
    """Make torch usable in a process that was forked from the one that holds the network.

    The threads that torch shares its work with are the parent's: this process computes in one.

    Raises:
        DeviceError: the network lies on a GPU, whose driver no fork can use.
    """
    if device.type != "cpu":
        raise DeviceError(
            f"this process was forked from the one that loaded the network to {device}, which a "
            "fork cannot use; load the model in each worker, or start them with 'spawn'"
        )
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


def _fits(network: nn.Module, dtype: torch.dtype) -> bool:
    """Whether no weight becomes infinite in `dtype`."""
    most = torch.finfo(dtype).max
    return all(
        float(torch.linalg.vector_norm(tensor.detach(), float("inf"))) <= most
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.is_floating_point() and tensor.numel()
    )


_turn = threading.Lock()
_here = threading.local()


class ConcurrentEngine:
    """The same network; a thread that calls it keeps to so many cores from then on.

    Args:
        engine: a `TorchEngine` of a CPU.
        cores: for each calling thread.
    """

    def __init__(self, engine: Engine, cores: int) -> None:
        self._engine = engine
        self._cores = cores
        self.name = engine.name
        self.batch_size = engine.batch_size
        self.takes_guidance = takes_guidance(engine)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `TorchEngine.infer`."""
        if getattr(_here, "cores", None) != self._cores:
            _keep_to(self._cores)
        return self._engine.infer(batch)


def _keep_to(cores: int) -> None:
    """Limit the threads that torch uses for the calling thread, and for no other."""
    with _turn:
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        # That now holds for threads to come, too; a thread of its own gives them theirs back and
        # leaves this one as it is.
        others = threading.Thread(target=torch.set_num_threads, args=(before,))
        others.start()
        others.join()
    _here.cores = cores
