"""Turns modules into nodes: one function per class of module, looked up by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from openvino import Node
from torch import Tensor, nn

from birefnet.inference.engines import openvino_nodes as nodes
from birefnet.inference.engines.openvino_engine import UnknownModuleError

_EMIT: dict[type[nn.Module], Callable[..., Any]] = {}


def emits(*kinds: type[nn.Module]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(emitter, module, *inputs) -> node` for classes of modules."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds:
            _EMIT[kind] = function
        return function

    return register


class Emitter:
    """Emits the modules of one network.

    Args:
        network: the root; nodes are named by the paths of their modules in it.
    """

    def __init__(self, network: nn.Module) -> None:
        self._names = {id(module): name for name, module in network.named_modules()}
        self._used: Counter[str] = Counter()

    def __call__(self, module: nn.Module, *inputs: Any) -> Any:
        """The nodes that compute `module` of `inputs`.

        Raises:
            UnknownModuleError: no function knows the class.
        """
        function = _EMIT.get(type(module))
        if function is None:
            raise UnknownModuleError(
                f"OpenVINO's graph knows no {type(module).__name__} "
                f"({self.name(module) or 'the network'}); run this network with engine torch"
            )
        return function(self, module, *inputs)

    def name(self, module: nn.Module) -> str:
        """Path of `module` in the network."""
        return self._names.get(id(module), type(module).__name__)

    def label(self, node: Node, module: nn.Module) -> None:
        """Name a node by its module; the backbone runs twice, and names must differ."""
        name = self.name(module)
        self._used[name] += 1
        node.set_friendly_name(name if self._used[name] == 1 else f"{name}:{self._used[name]}")


def array(tensor: Tensor) -> NDArray[Any]:
    """The values of a tensor, without a copy where it is contiguous."""
    values: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return values


def constant(values: Tensor | NDArray[Any]) -> Node:
    """A constant that shares its memory with `values`."""
    return nodes.constant(array(values) if isinstance(values, Tensor) else values)
