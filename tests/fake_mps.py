"""A stand-in for Apple's GPUs, which runs on the CPU and refuses what torch cannot do there.

Inside `fake_mps()` the device "mps" exists: tensors that are sent to it, or made on it, name it as
their device. They refuse float64, operators without a kernel for MPS, and mixing with tensors of
the CPU. Which operators have one is read from the list that torch itself is generated from; what
their kernels refuse at run time is written out here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torchgen
import yaml
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from birefnet.network.deform import op

MPS = torch.device("mps")
_LIST = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
# torch chooses these because the tensors lie on a CPU; on MPS it would choose others.
_CHOSEN_FOR_CPUS = ("_for_cpu", "mkldnn", "_nnpack", "_slow_conv2d")
_ANY_DEVICE = ("Composite",)
# May be given tensors of both devices.
_MIXED = ("copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_", "set_")
_WIDE = (torch.float64, torch.complex128)


@functools.cache
def operators_without_kernel() -> frozenset[str]:
    """Names, with overloads, of torch's operators that a CPU can compute and MPS cannot."""
    listed = yaml.load(_LIST.read_text(encoding="utf-8"), yaml.CSafeLoader)
    dispatch, delegate = {}, {}
    for entry in listed:
        name = entry["func"].partition("(")[0]
        dispatch[name] = ",".join(entry.get("dispatch", ()))
        delegate[name] = entry.get("structured_delegate")
    found = set()
    for name in dispatch:
        keys = dispatch[delegate[name] or name]
        is_for_all = not keys or any(kind in keys for kind in _ANY_DEVICE)
        if "CPU" in keys and "MPS" not in keys and not is_for_all:
            found.add(name)
    return frozenset(found)


def _refuse_at_run_time(name: str, arguments: tuple[Any, ...]) -> None:
    """What kernels of MPS check themselves."""
    if name == "grid_sampler_2d" and (arguments[2] == 2 or arguments[3] == 1):
        raise NotImplementedError("MPS: grid_sampler_2d: bicubic, and padding with the border")
    if name == "_adaptive_avg_pool2d":
        sides = zip(arguments[0].shape[-2:], arguments[1], strict=True)
        if any(large % small and small % large for large, small in sides):
            raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes.")


class MpsTensor(Tensor):
    """A tensor of the stand-in; `elem` holds its numbers."""

    elem: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, elem: Tensor) -> MpsTensor:
        if elem.dtype in _WIDE:
            raise TypeError(
                f"Cannot convert a MPS Tensor to {elem.dtype} dtype as the MPS framework doesn't "
                "support it"
            )
        made: MpsTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            elem.shape,
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=elem.device,
        )
        made.elem = elem.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return MPS

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made: Tensor = MpsTensor(self.elem.clone()).requires_grad_(self.requires_grad)
        return torch.nn.Parameter(made, self.requires_grad) if _is_parameter(self) else made

    def __repr__(self, **_: Any) -> str:
        return f"MpsTensor({self.elem})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        if func.namespace == "birefnet":  # written in Python, of operators that are refused or not
            kernel = {"deformable_conv2d": op._forward}.get(name, op._backward)
            with _Placement():
                return kernel(*args, **kwargs)
        full = func.__name__.removesuffix(".default")
        chosen = any(part in full for part in _CHOSEN_FOR_CPUS)
        if full in operators_without_kernel() and not chosen:
            raise NotImplementedError(
                f"The operator 'aten::{full}' is not currently implemented for the MPS device"
            )
        _refuse_at_run_time(name, args)
        if name not in _MIXED:
            for value in tree_leaves((args, kwargs)):
                if type(value) in (Tensor, torch.nn.Parameter) and value.dim():
                    raise RuntimeError(
                        f"Expected all tensors to be on the same device, mps and cpu, in {full}"
                    )
        out = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        if name.endswith("_") and not name.startswith("_"):
            return args[0]
        return tree_map(_wrap, out)


def _is_parameter(value: Tensor) -> bool:
    return isinstance(value, torch.nn.Parameter)


def _unwrap(value: Any) -> Any:
    return value.elem if isinstance(value, MpsTensor) else value


def _wrap(value: Any) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, MpsTensor):
        return value
    with torch.inference_mode(False):  # or there could be no views of it
        return MpsTensor(value)


class _Placement(TorchFunctionMode):
    """Takes "mps" for a device wherever torch is asked to make or move a tensor."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "to":
            return _to(func, args, kwargs)
        if name == "cpu":
            return _to(torch.Tensor.to, (args[0], "cpu"), {})
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "mps":
            kwargs["device"] = "cpu"
            with torch._C.DisableTorchFunction():
                made = func(*args, **kwargs)
            return _wrap(made)
        if device is not None and args and isinstance(args[0], MpsTensor):  # to the CPU
            return func(_unwrap(args[0]), *args[1:], **kwargs)
        return func(*args, **kwargs)


class _Move(torch.autograd.Function):
    """Between devices, with a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, to_mps: bool) -> Tensor:
        return _wrap(x.clone()) if to_mps else _unwrap(x).clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (_unwrap(grad) if isinstance(grad, MpsTensor) else _wrap(grad)), None


def _to(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """`Tensor.to` with a device, a dtype, or another tensor that has both."""
    x, *rest = args
    target: torch.device | None = None
    given = []
    for value in rest:
        if isinstance(value, Tensor):
            target = value.device
            given.append(value.dtype)
        elif isinstance(value, (str, torch.device)):
            target = torch.device(value)
        elif isinstance(value, torch.dtype):  # not: whether to wait, whether to copy
            given.append(value)
    if kwargs.get("device") is not None:
        target = torch.device(kwargs.pop("device"))
    if target is not None and (target.type == "mps") != isinstance(x, MpsTensor):
        if target.type == "mps":  # numbers are converted on their way
            return _Move.apply(func(x, *given, **kwargs) if given or kwargs else x, True)
        x = _Move.apply(x, False)
    return func(x, *given, **kwargs) if given or kwargs else x


class _Generator:
    """One of the CPU."""

    _of_torch = torch.Generator

    def __new__(cls, device: object = "cpu") -> torch.Generator:  # type: ignore[misc]
        return cls._of_torch()


@contextmanager
def fake_mps() -> Iterator[torch.device]:
    """The device "mps", as long as this lasts."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    # Parameters that move are made anew, as they are between devices of different kinds.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Placement(), patch.object(torch, "Generator", _Generator):
            yield MPS
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
