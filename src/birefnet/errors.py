"""Errors that users meet; a message is one sentence: what came, what was expected, what to do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from string import Formatter


def counted(number: float, noun: str, several: str = "") -> str:
    """A number and what it counts: "1 picture", "1,200 pictures".

    Args:
        number: how many.
        noun: for one.
        several: for other numbers; the noun with an s if it is empty.
    """
    return f"{number:,.15g} {noun if number == 1 else several or noun + 's'}"


class BiRefNetError(ValueError):
    """Base of every error this package raises for bad input."""


class UsageError(BiRefNetError):
    """A request that makes no sense: a name that nothing has, or options that contradict.

    Commands end with exit status 2 for it, and with 1 for every other error.
    """


class OptionError(UsageError):
    """A value of an option that makes no sense, or options that do not go together.

    The message has the names of Python and JSON; `named` gives it with those of another way in.

    Args:
        text: a sentence in which `{field}` stands for the name of a field of `Options`.
        values: what other names in braces stand for.
    """

    def __init__(self, text: str, **values: object) -> None:
        self.text, self.values = text, values
        super().__init__(self.named(str))

    def named(self, name: Callable[[str], str]) -> str:
        """The message; `name` gives what a field is called, such as "--band"."""
        fields = {field: name(field) for _, field, _, _ in Formatter().parse(self.text) if field}
        return self.text.format_map(fields | self.values)


class ImageError(BiRefNetError):
    """A picture that cannot be read, is too large, or has an unusable shape."""


class WeightsError(BiRefNetError):
    """A checkpoint that cannot be found, fetched, verified or fitted to a network."""


class DeviceError(BiRefNetError):
    """A device or precision that was asked for and is not there."""


class MissingPictureError(ImageError, UsageError):
    """A path of a picture at which there is nothing."""


class UnknownModelError(WeightsError, UsageError):
    """A name that no model has, or a path of weights at which there are none."""


class UnknownDeviceError(DeviceError, UsageError):
    """A device, precision or engine that no machine has under this name."""


class MissingExtraError(BiRefNetError, ImportError):
    """A feature whose optional dependencies are not installed.

    Args:
        feature: what was asked for, as the subject of the sentence.
        extras: that bring its dependencies.
    """

    def __init__(self, feature: str, *extras: str) -> None:
        named = " and ".join(f"'{extra}'" for extra in extras)
        super().__init__(
            f"{feature} needs the extra{'s' * (len(extras) > 1)} {named}: "
            f'pip install "birefnet[{",".join(extras)}]"'
        )


@contextmanager
def needs_extra(name: str, feature: str) -> Iterator[None]:
    """Imports that need an extra: `with needs_extra("torch", __name__): import torch`.

    Args:
        name: of the extra.
        feature: for the message; a public module gives its own name.

    Raises:
        MissingExtraError: in place of the error of a module that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "birefnet":
            raise
        raise MissingExtraError(feature, name) from None


_TORCH = ("torch", "safetensors")
_PACKAGES = {
    "torch": _TORCH,
    "onnx": (*_TORCH, "onnx"),
    "openvino": ("openvino",),
    "nncf": (*_TORCH, "openvino", "nncf"),
    "train": (*_TORCH, "accelerate", "yaml"),
    "serve": ("fastapi", "uvicorn"),
    "ui": ("gradio",),
}


def require(feature: str, *extras: str) -> None:
    """Raise unless these extras are installed; none of their packages is imported.

    Args:
        feature: for the message.
        extras: keys of the table above.

    Raises:
        MissingExtraError: names the extras that are missing.
    """
    missing = [e for e in extras if not all(map(importlib.util.find_spec, _PACKAGES[e]))]
    if missing:
        raise MissingExtraError(feature, *missing)
