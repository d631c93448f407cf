"""Which device and which precision: what people ask for, turned into what torch has."""

from __future__ import annotations

from birefnet.errors import DeviceError, UnknownDeviceError, needs_extra

with needs_extra("torch", __name__):
    import torch

from birefnet.inference.engines.base import LONG_NAMES

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def available_devices() -> list[str]:
    """Devices that torch can use here, the one that `auto` takes first."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if not torch.cuda.is_available():
        devices = []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` → the first of CUDA, MPS and CPU that is there; any other name → that device.

    Raises:
        DeviceError: an unknown name, or a device that is not there; nothing falls back silently.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device(available_devices()[0])
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise UnknownDeviceError(
            f"device {device!r} is unknown; give auto, cpu, cuda, cuda:1 or mps"
        ) from None
    if chosen.type == "cpu" or chosen.type == "meta":
        return torch.device(chosen.type)
    here = available_devices()
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", torch.cuda.current_device() if "cuda:0" in here else 0)
    name = "mps" if chosen.type == "mps" else str(chosen)
    if name not in here:
        raise DeviceError(
            f"device {str(device)!r} was asked for, but torch {torch.__version__} finds only "
            f"{', '.join(here)} here; ask for one of these, or install a torch build and driver "
            "for it"
        )
    return torch.device(name)


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`auto` → fp16 on CUDA devices that are good at it, fp32 elsewhere; a name → that precision.

    Raises:
        DeviceError: an unknown name, or a precision that the device lacks.
    """
    if isinstance(dtype, torch.dtype):
        if dtype not in DTYPES.values():
            raise UnknownDeviceError(
                f"dtype {dtype} cannot run a network; give one of {_options()}"
            )
        chosen = dtype
    elif dtype == "auto":
        chosen = torch.float16 if _is_good_at_half(device) else torch.float32
    else:
        try:
            chosen = DTYPES[LONG_NAMES.get(dtype, dtype)]
        except KeyError:
            raise UnknownDeviceError(
                f"dtype {dtype!r} is unknown; give one of {_options()}"
            ) from None
    if not supports(device, chosen):
        raise DeviceError(
            f"{dtype_name(chosen)} was asked for, but {device} cannot compute in it; ask for fp32"
        )
    return chosen


# Turing without tensor cores: fp16 gains little there, and networks are known to give NaN.
_WEAK_TURING = (
    *("GTX 16", "MX450", "MX550"),
    *("T400", "T500", "T550", "T600", "T1000", "T1200", "T2000"),
)


def _is_good_at_half(device: torch.device) -> bool:
    """Whether a device multiplies matrices of fp16 quicker than of fp32, and as reliably."""
    if device.type != "cuda":
        return False
    if torch.version.hip:
        return True
    if torch.cuda.get_device_capability(device) < (7, 0):  # Pascal, Maxwell
        return False
    name = torch.cuda.get_device_name(device)
    return not any(f" {weak}" in f" {name}" for weak in _WEAK_TURING)


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `device` can convolve in `dtype`, by trying it on four numbers."""
    if device.type == "meta":
        return True
    try:
        ones = torch.ones(1, 1, 2, 2, device=device, dtype=dtype)
        return bool(torch.nn.functional.conv2d(ones, ones).isfinite().all())
    except (RuntimeError, NotImplementedError, TypeError):
        return False


def dtype_name(dtype: torch.dtype) -> str:
    """fp32, fp16 or bf16."""
    return next(name for name, value in DTYPES.items() if value == dtype)


def _options() -> str:
    return ", ".join(("auto", *DTYPES))
