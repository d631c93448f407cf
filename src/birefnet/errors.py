"""Errors that users meet; a message is one sentence: what came, what was expected, what to do."""

from __future__ import annotations


class BiRefNetError(ValueError):
    """Base of every error this package raises for bad input."""


class UsageError(BiRefNetError):
    """What was asked for makes no sense: a name that nothing has, or options that contradict.

    Commands end with exit status 2 for it, and with 1 for every other error.
    """


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
    """A feature whose optional dependencies are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': pip install 'birefnet[{extra}]'")
