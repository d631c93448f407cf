"""Write a network's weights, atomically and without loss, in the layouts that others read.

Layouts:
    birefnet: a directory, model.safetensors with our names and config.json.
    huggingface: a directory, model.safetensors with the official names; its config.json serves this
        package, `birefnet.integrations.transformers`, and `transformers` alone (whose
        `trust_remote_code` fetches the official code).
    safetensors, pth: one file with the official names, as the official releases.
    comfyui: one .safetensors file that ComfyUI's own loader takes (Swin-L; it recognises the file
        by a position index, so the indices are kept).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from birefnet.errors import WeightsError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor

from birefnet.files import remove_file, replace_file
from birefnet.imaging.geometry import Preprocess
from birefnet.network.config import NetworkConfig, preset
from birefnet.weights.files import with_settings
from birefnet.weights.layouts import to_official
from birefnet.weights.locate import FORMAT, FORMAT_VERSION, Settings, settings_beside

if TYPE_CHECKING:
    from birefnet.network.birefnet import BiRefNet

Layout = Literal["birefnet", "huggingface", "safetensors", "pth", "comfyui"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
DIRECTORIES: tuple[Layout, ...] = ("birefnet", "huggingface")
_COMFYUI_BACKBONE = "swin_v1_l"
_COMFYUI_KEY = "bb.layers.1.blocks.0.attn.relative_position_index"
# What `birefnet.integrations.transformers` is registered as.
MODEL_TYPE = "birefnet"
# Repositories with the official code for each backbone, for `transformers` without this package.
_OFFICIAL_CODE = {"swin_v1_l": "ZhengPeng7/BiRefNet", "swin_v1_t": "ZhengPeng7/BiRefNet_lite"}


def save_directory(
    path: str | os.PathLike[str],
    network: BiRefNet,
    preprocess: Preprocess | None = None,
    *,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    dtype: torch.dtype | None = None,
    layout: Layout = "birefnet",
    extra: Mapping[str, object] | None = None,
) -> Path:
    """Write `network` to the directory `path`, to be loaded again by that path.

    Args:
        path: created if need be; files of the same names are replaced, each in one step.
        network: on any device.
        preprocess: how a picture becomes its input; default: the network's own, or stretched to
            1024x1024 where it has none.
        name, licence, source: noted in config.json; `name` defaults to the directory's.
        dtype: of the floating tensors as written; default: as they are.
        layout: `birefnet` or `huggingface`.
        extra: further entries for config.json, such as measured scores.
    """
    if layout not in DIRECTORIES:
        raise ValueError(f"layout={layout!r} is not a directory; choose {' or '.join(DIRECTORIES)}")
    folder = Path(path)
    state = export_state(network, layout=layout, dtype=dtype)
    values = settings(
        network, preprocess, name=name or folder.resolve().name, licence=licence, source=source
    )
    config = {**values, **_for_transformers(network, dtype)} if layout == "huggingface" else values
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise WeightsError(f"cannot write to {folder}: {failure.strerror}") from None
    _write_safetensors(folder / "model.safetensors", state, values)
    text = json.dumps({**(extra or {}), **config}, indent=2, ensure_ascii=False) + "\n"
    _write(folder / "config.json", lambda file: file.write_text(text, encoding="utf-8"))
    return folder


def save_file(
    path: str | os.PathLike[str],
    network: BiRefNet,
    preprocess: Preprocess | None = None,
    *,
    layout: Layout,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write `network` to one file with the official names: `safetensors`, `pth` or `comfyui`.

    The file carries the configuration and the preprocessing (.safetensors in its header, .pth as
    metadata of its state dict, which torch and other programs pass over), so it is loaded as it was
    saved. `for_other_programs` says what those do without it.

    Args: see `save_directory`.
    """
    if layout in DIRECTORIES or layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is not a file; choose safetensors, pth or comfyui")
    target = Path(path)
    if settings_beside(target):
        raise WeightsError(
            f"{target} would be read with the config.json beside it, which is of other weights: "
            "choose another name, or the layout birefnet for the whole folder"
        )
    state = export_state(network, layout=layout, dtype=dtype)
    values = settings(network, preprocess, name=name or target.stem, licence=licence, source=source)
    if layout == "pth":
        _write(target, lambda file: torch.save(with_settings(state, values), file))
    else:
        _write_safetensors(target, state, values)
    return target


def for_other_programs(preprocess: Preprocess, layout: Layout) -> str | None:
    """A sentence for who reads the file without this package; `None` where nothing differs."""
    if layout == "birefnet" or replace(preprocess, minimum=256, maximum=2304) == Preprocess():
        return None
    return (
        f"the preprocessing is written along: {preprocess}. Programs other than birefnet do not "
        "read it and must be told, or their mattes differ"
    )


def settings(
    network: BiRefNet,
    preprocess: Preprocess | None,
    *,
    name: str,
    licence: str | None,
    source: str | None,
) -> Settings:
    """The config.json of a network."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "network": network.config.to_dict(),
        "preprocess": (preprocess or network.preprocess or Preprocess()).to_dict(),
        "licence": licence,
        "source": source,
    }


def export_state(
    network: BiRefNet, *, layout: Layout, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The network's tensors by the names of `layout`, on the CPU.

    Raises:
        WeightsError: ComfyUI does not know this architecture, or `dtype` cannot hold the numbers.
    """
    state = {name: _converted(t, dtype, name) for name, t in network.state_dict().items()}
    if layout == "birefnet":
        return state
    official = to_official(state)
    if layout == "comfyui" and network.config.guidance_channel:
        raise WeightsError(
            "ComfyUI's own loader knows no guidance channel, which this network has: choose the "
            "layout safetensors"
        )
    if layout == "comfyui" and (
        network.config.backbone != _COMFYUI_BACKBONE or _COMFYUI_KEY not in official
    ):
        raise WeightsError(
            "ComfyUI's own loader knows Swin-L only and this network has "
            f"{network.config.backbone}: choose the layout safetensors"
        )
    return official


def _converted(tensor: Tensor, dtype: torch.dtype | None, name: str) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is None or not tensor.is_floating_point():
        return tensor.contiguous()
    converted = tensor.to(dtype)
    if not torch.isfinite(converted).all() and torch.isfinite(tensor).all():
        raise WeightsError(
            f"{name} holds numbers too large for {_name(dtype)}: keep float32, or choose bfloat16"
        )
    return converted.contiguous()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _for_transformers(network: BiRefNet, dtype: torch.dtype | None) -> dict[str, object]:
    values: dict[str, object] = {
        "model_type": MODEL_TYPE,
        "architectures": ["BiRefNet"],
        "bb_pretrained": False,
        "torch_dtype": _name(dtype or next(network.parameters()).dtype),
    }
    auto_map = official_code(network.config)
    return {**values, "auto_map": auto_map} if auto_map else values


def official_code(config: NetworkConfig) -> dict[str, str]:
    """The `auto_map` that names the official code for a network; empty where there is none."""
    repo = _OFFICIAL_CODE.get(config.backbone)
    if repo is None:
        return {}
    plain = replace(preset(config.backbone), drop_path=config.drop_path, dropout=config.dropout)
    if config != plain:
        return {}
    return {
        "AutoConfig": f"{repo}--BiRefNet_config.BiRefNetConfig",
        "AutoModelForImageSegmentation": f"{repo}--birefnet.BiRefNet",
    }


def _write_safetensors(path: Path, state: dict[str, Tensor], values: Settings) -> None:
    from safetensors.torch import save_file as save_safetensors

    # "format": "pt" is what other readers look for.
    metadata = {"format": "pt", FORMAT: json.dumps(values)}
    _write(path, lambda file: save_safetensors(state, str(file), metadata=metadata))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary name in the same folder, then rename, so no half file is ever seen."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # as any new file; mkstemp's are private
        replace_file(temporary, path)
    except (OSError, RuntimeError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure).splitlines()[0]
        raise WeightsError(f"cannot write {path}: {reason}") from None
    finally:
        if temporary is not None:
            remove_file(temporary)
