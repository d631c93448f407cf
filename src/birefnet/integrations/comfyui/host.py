"""The parts of ComfyUI that this package uses: folders, devices, memory, progress, the stop button.

Outside ComfyUI (in tests, in scripts) its modules are not there, and each function says what it
does then.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# ComfyUI's name of a folder → that folder in its `models`. The packs whose models lie there:
# ComfyUI_BiRefNet_ll, ComfyUI-BiRefNet-ZHO and viperyl's; ComfyUI itself; ComfyUI-RMBG.
FOLDERS = {
    "birefnet": ("BiRefNet", "birefnet"),
    "background_removal": ("background_removal",),
    "rmbg": ("RMBG",),
}


def _module(name: str) -> Any | None:
    """A module of ComfyUI, if it is running; only one that it has loaded, or can load at once."""
    if name in sys.modules:
        return sys.modules[name]
    if "folder_paths" not in sys.modules:  # the first that ComfyUI's main.py imports
        return None
    try:
        return import_module(name)
    except ImportError:
        return None


def register_folders() -> None:
    """Tell ComfyUI of the folders above, where no pack has done so."""
    paths = _module("folder_paths")
    if paths is None:
        return
    for name, folders in FOLDERS.items():
        registered = paths.folder_names_and_paths.get(name, ([],))[0]
        for folder in folders:
            full = str(Path(paths.models_dir, folder))
            if full not in registered:
                paths.add_model_folder_path(name, full)


def model_folders() -> list[Path]:
    """Existing folders that models may lie in, each once; none outside ComfyUI."""
    paths = _module("folder_paths")
    if paths is None:
        return []
    folders: dict[str, Path] = {}
    for name in (*FOLDERS, "BiRefNet"):  # ZHO's pack has a name of its own for the same folder
        for folder in paths.folder_names_and_paths.get(name, ([],))[0]:
            if Path(folder).is_dir():
                # On disks that take BiRefNet and birefnet for the same, it is listed once.
                folders.setdefault(str(Path(folder).resolve()).lower(), Path(folder))
    return list(folders.values())


def registered_nodes() -> dict[str, Any]:
    """Nodes that ComfyUI knows already; none outside it."""
    nodes = sys.modules.get("nodes")
    return dict(getattr(nodes, "NODE_CLASS_MAPPINGS", {}))


def device_of(choice: str) -> str:
    """`auto` → the device that ComfyUI computes on; outside it, `auto` stays.

    A device that is not there, as in a workflow saved on another machine, counts as `auto`. Intel's
    and DirectML's devices cannot run the networks: the CPU does. The log says both.
    """
    management = _module("comfy.model_management")
    if choice not in ("auto", "cpu", "cuda") and choice not in cuda_devices():
        log.warning("birefnet: the workflow's device %s is not there; ComfyUI's is used", choice)
        choice = "auto"
    if choice != "auto" or management is None:
        return choice
    device = str(management.get_torch_device())
    if device.partition(":")[0] in ("cpu", "cuda", "mps"):
        return device
    log.warning("ComfyUI computes on %s, which BiRefNet cannot use; it runs on the CPU", device)
    return "cpu"


def precision_of(choice: str, device: str) -> str:
    """`auto` → fp32 on a CUDA device that ComfyUI does not run in half precision."""
    management = _module("comfy.model_management")
    if choice != "auto" or management is None or not device.startswith("cuda"):
        return choice
    import torch

    return "auto" if management.should_use_fp16(torch.device(device)) else "fp32"


def cuda_devices() -> list[str]:
    """cuda:0 … and mps, as far as they are there."""
    import torch

    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*devices, "mps"] if torch.backends.mps.is_available() else devices


def make_room(size: int, device: str) -> None:
    """Let ComfyUI unload models until `size` bytes are free on a GPU."""
    management = _module("comfy.model_management")
    if management is None or device in ("auto", "cpu"):
        return
    import torch

    management.free_memory(size, torch.device(device))


def unload_others() -> bool:
    """Let ComfyUI unload all its models; whether there is a ComfyUI to do so."""
    management = _module("comfy.model_management")
    if management is None:
        return False
    management.unload_all_models()
    management.soft_empty_cache()
    return True


class Progress:
    """ComfyUI's progress bar and stop button; outside it, nothing happens."""

    def __init__(self, total: int) -> None:
        utilities = _module("comfy.utils")
        self._bar = None if utilities is None else utilities.ProgressBar(total)

    def check(self) -> None:
        """Raise ComfyUI's own exception if the user pressed stop."""
        management = _module("comfy.model_management")
        if management is not None:
            management.throw_exception_if_processing_interrupted()

    def step(self) -> None:
        """One more picture is done."""
        if self._bar is not None:
            self._bar.update(1)
        self.check()
