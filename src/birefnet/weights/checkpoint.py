"""Load a network, from wherever and in whatever layout its weights come."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birefnet.errors import WeightsError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor

from birefnet.imaging.geometry import Preprocess
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import empty_network
from birefnet.network.config import NetworkConfig
from birefnet.network.guidance import is_guidance
from birefnet.weights.catalogue import CHECKPOINTS, Checkpoint, lookup
from birefnet.weights.detect import HOW_TO_TELL, detect_config
from birefnet.weights.download import file_sha256
from birefnet.weights.files import Weights, read_weights
from birefnet.weights.layouts import from_official, is_official
from birefnet.weights.locate import Located, Settings, WeightFiles, settings_in_metadata
from birefnet.weights.obtain import weight_files
from birefnet.weights.transfer import Report

# Computed by the network itself, and a counter that inference ignores: a file may lack them.
_INDEX, _COUNTER = "relative_position_index", "num_batches_tracked"


@dataclass
class Loaded:
    """A network with its weights, and what is known of them.

    Attributes:
        network: in evaluation mode, on the CPU; its `preprocess` is the one here.
        config: what it was built from.
        preprocess: how a picture becomes its input.
        name: what to call it.
        licence: of the weights, if known.
        source: what was asked for, or the address it came from.
        path: the file of weights, or the first part of a split one.
        stored_dtype: the floating type that most of the file's numbers have.
        checkpoint: the catalogue's entry (data note, reported scores), if it is one.
    """

    network: BiRefNet
    config: NetworkConfig
    preprocess: Preprocess
    name: str
    licence: str | None
    source: str
    path: Path
    stored_dtype: torch.dtype
    checkpoint: Checkpoint | None = None


def load_checkpoint(
    source: str | os.PathLike[str] | Located,
    *,
    config: NetworkConfig | Mapping[str, object] | None = None,
    preprocess: Preprocess | None = None,
    dtype: torch.dtype | None = torch.float32,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> Loaded:
    """A network by name, path, Hugging Face id or address. Never runs code from a checkpoint.

    Args:
        source: a bundled name (`nano`), a name of the catalogue (`general`, `lite`, a release's
            file name), a file (.safetensors, .pth, .pt) or directory, `owner/name[@revision]` on
            Hugging Face, or an http(s) address; or what `locate` found. Only what is not there yet
            is downloaded.
        config: the architecture, or those of its fields that neither the file says nor its shapes
            can (see `birefnet.weights.detect`); default: the file's config.json, else its tensors'
            shapes.
        preprocess: default: what the file (or the config.json beside it) says, else the
            catalogue's entry for it, else stretched to 1024x1024 with ImageNet statistics.
        dtype: of the floating tensors; `None` keeps what is stored.
        cache_dir, offline, progress: see `birefnet.weights.download.fetch`.

    Raises:
        WeightsError: not found, not fetched, damaged, hostile, or not fitting.
    """
    local = weight_files(source, cache_dir=cache_dir, offline=offline, progress=progress)
    return read_network(local, config=config, preprocess=preprocess, dtype=dtype)


def read_network(
    local: WeightFiles,
    *,
    config: NetworkConfig | Mapping[str, object] | None = None,
    preprocess: Preprocess | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Loaded:
    """As `load_checkpoint`, of files on this machine."""
    weights = _read(local.files)
    settings = local.settings or settings_in_metadata(weights.metadata, local.files[0])
    tensors = weights.tensors
    if is_official(tensors):
        tensors = from_official(tensors)
    if not isinstance(config, NetworkConfig):
        config = _config(settings, tensors, local, config or {})
    network = empty_network(config)
    assign_weights(network, tensors, label=local.name)
    if dtype is not None:
        network = network.to(dtype)
    checkpoint = recognise(local, config.backbone) if not settings else local.checkpoint
    network.preprocess = preprocess or _preprocess(settings, checkpoint, local)
    return Loaded(
        network=network,
        config=config,
        preprocess=network.preprocess,
        name=local.name,
        licence=settings.get("licence") or (checkpoint.licence if checkpoint else None),
        source=str(settings.get("source") or local.source),
        path=local.files[0],
        stored_dtype=_main_dtype(tensors.values()),
        checkpoint=checkpoint,
    )


def assign_weights(network: BiRefNet, tensors: Mapping[str, Tensor], *, label: str) -> None:
    """Put `tensors` (by our names) in place of the network's own, without copying.

    What reads a guidance channel starts at 0 where the weights know none.

    Raises:
        WeightsError: names, shapes or kinds of numbers differ; the first few are named.
    """
    expected = network.state_dict()
    own = {name: t for name, t in expected.items() if name.endswith(_INDEX)}
    counters = {name: t for name, t in expected.items() if name.endswith(_COUNTER)}
    given = {
        # Some writers turn every number into a floating one, the counters too.
        name: t.to(torch.int64) if name.endswith(_COUNTER) else t
        for name, t in tensors.items()
        if not name.endswith(_INDEX)
    }
    if not any(map(is_guidance, given)):
        kind = _main_dtype(given.values())
        given |= {
            name: torch.zeros(t.shape, dtype=kind)
            for name, t in expected.items()
            if is_guidance(name)
        }
    missing = [n for n in expected if n not in given and not n.endswith((_INDEX, _COUNTER))]
    unexpected = [n for n in given if n not in expected]
    both = [n for n in given if n in expected]
    shapes = [
        f"{n} is {_shape(given[n])} in place of {_shape(expected[n])}"
        for n in both
        if given[n].shape != expected[n].shape
    ]
    kinds = [
        f"{n} is {str(given[n].dtype).removeprefix('torch.')}"
        for n in both
        if given[n].is_floating_point() != expected[n].is_floating_point()
    ]
    faults = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("of another shape", shapes),
        _listed("of another type (quantised weights are not read)", kinds),
    ]
    if any(faults):
        raise WeightsError(
            f"the weights of {label} do not fit a {network.config.backbone} network: "
            f"{'; '.join(filter(None, faults))}"
        )
    network.load_state_dict({**counters, **given, **own}, strict=True, assign=True)
    valueless = [n for n, t in (*network.named_parameters(), *network.named_buffers()) if t.is_meta]
    assert not valueless, f"buffers that no checkpoint holds were made by torch.empty: {valueless}"


def _read(files: list[Path]) -> Weights:
    weights = read_weights(files[0])
    for part in files[1:]:
        more = read_weights(part).tensors
        twice = sorted(set(more) & set(weights.tensors))
        if twice:
            raise WeightsError(f"{part} repeats {twice[0]!r} of another part")
        weights.tensors.update(more)
    return weights


def _config(
    settings: Settings,
    tensors: Mapping[str, Tensor],
    local: WeightFiles,
    given: Mapping[str, object],
) -> NetworkConfig:
    if "network" in settings:
        try:
            return NetworkConfig.from_dict({**settings["network"], **given})
        except (ValueError, TypeError) as failure:
            what = "configuration given for" if given else "config.json of"
            raise WeightsError(f"the {what} {local.name} is wrong: {failure}") from None
    try:
        config = detect_config({name: tuple(t.shape) for name, t in tensors.items()}, given)
    except WeightsError as failure:
        raise WeightsError(f"{local.files[0]}: {failure}") from None
    if config.image_pyramid == "none" and "image_pyramid" not in given:
        warnings.warn(
            f"{local.files[0]}: without an image pyramid and with one that adds, the tensors are "
            "the same, and none is assumed; if it was trained with one that adds, "
            + HOW_TO_TELL.format(name="image_pyramid", value="add"),
            stacklevel=3,
        )
    return config


def _preprocess(
    settings: Settings, checkpoint: Checkpoint | None, local: WeightFiles
) -> Preprocess:
    if "preprocess" in settings:
        try:
            return Preprocess.from_dict(settings["preprocess"])
        except (ValueError, TypeError) as failure:
            raise WeightsError(f"the config.json of {local.name} is wrong: {failure}") from None
    return checkpoint.preprocess if checkpoint else Preprocess()


def _main_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    counts: dict[torch.dtype, int] = {}
    for tensor in tensors:
        if tensor.is_floating_point():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _listed(what: str, names: list[str], limit: int = 3) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > limit else ""
    return f"{len(names)} {what} ({', '.join(names[:limit])}{more})"


def recognise(local: WeightFiles, backbone: str) -> Checkpoint | None:
    """The catalogue's entry of a local file: by checksum, or by the name of the file or its folder.

    A name counts only if the entry has the same backbone, for files are renamed.
    """
    if local.checkpoint is not None:
        return local.checkpoint
    path = local.files[0]
    size = path.stat().st_size
    same_size = [c for c in CHECKPOINTS.values() if c.kind == "network" and c.bytes == size]
    if any(c.sha256 for c in same_size):
        actual = file_sha256(path)
        for checkpoint in same_size:
            if checkpoint.sha256 == actual:
                return checkpoint
    # Hugging Face's cache calls the folder of a repository models--owner--name.
    folders = [p.name.removeprefix("models--").replace("--", "/") for p in path.absolute().parents]
    for name in (local.source, path.name, path.stem, *folders[:3]):
        named = lookup(name)
        if named is not None and named.kind == "network" and named.preset == backbone:
            return named
    return None
