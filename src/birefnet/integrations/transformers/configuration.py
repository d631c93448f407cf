"""The configuration of a BiRefNet of `transformers`: its architecture, and its config.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from birefnet.imaging.geometry import Preprocess
from birefnet.integrations.transformers.loading import (
    HubOptions,
    Location,
    find_location,
    read_config,
)
from birefnet.network.config import NetworkConfig, preset
from birefnet.weights.locate import FORMAT, FORMAT_VERSION, check_settings
from birefnet.weights.save import MODEL_TYPE, official_code

# Of the official config.json: code and pipelines to fetch and run, which nothing here does.
_FOREIGN = ("auto_map", "custom_pipelines")
# What config.json of the official releases and their kin call themselves, if anything.
_MODEL_TYPES = (None, MODEL_TYPE, "SegformerForSemanticSegmentation")


class BiRefNetConfig(PretrainedConfig):
    """Architecture and preprocessing of one network.

    Args:
        network: name of a preset, or the fields of `birefnet.network.config.NetworkConfig`; `None`
            where only the tensors of the weights will tell.
        preprocess: fields of `birefnet.imaging.geometry.Preprocess`.
        name, licence, source: of the weights.
        **kwargs: what every configuration of transformers takes.

    Raises:
        ValueError: an unknown preset or field.

    The config.json that is written serves `transformers`, `birefnet.load` and, for networks as
    they are released, the official code (`trust_remote_code=True`) alike.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        network: str | Mapping[str, Any] | NetworkConfig | None = "swin_v1_l",
        preprocess: Mapping[str, object] | Preprocess | None = None,
        name: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key in (*_FOREIGN, "format", "format_version", "bb_pretrained"):
            kwargs.pop(key, None)
        self.network = None if network is None else _network(network).to_dict()
        self.preprocess = _preprocess(preprocess).to_dict()
        self.name = name
        self.licence = licence
        self.source = source
        kwargs.setdefault("id2label", {0: "background", 1: "foreground"})
        kwargs.setdefault("label2id", {"background": 0, "foreground": 1})
        super().__init__(**kwargs)

    @property
    def network_config(self) -> NetworkConfig:
        """The architecture.

        Raises:
            ValueError: it is left to the weights.
        """
        if self.network is None:
            raise ValueError(
                "this configuration names no architecture: load the weights with "
                "BiRefNetForImageSegmentation.from_pretrained, or give network='swin_v1_l'"
            )
        return NetworkConfig.from_dict(self.network)

    @property
    def preprocess_config(self) -> Preprocess:
        """How a picture becomes the network's input."""
        return Preprocess.from_dict(self.preprocess)

    def to_dict(self) -> dict[str, Any]:
        """As config.json holds it."""
        values = super().to_dict()
        values |= {"format": FORMAT, "format_version": FORMAT_VERSION}
        values["bb_pretrained"] = False  # or the official code would fetch ImageNet weights
        auto_map = official_code(self.network_config) if self.network else {}
        return {**values, "auto_map": auto_map} if auto_map else values

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: object
    ) -> Any:
        """From a directory, a file of weights, a name of the table or an id on Hugging Face.

        An official config.json says nothing of the architecture; it is then looked up in the table
        of releases, or else left to the weights (`network=None`).

        Args:
            **kwargs: `cache_dir`, `force_download`, `local_files_only`, `token`, `revision` and
                `subfolder` as everywhere in transformers; others are attributes to change. With
                `return_unused_kwargs=True` a pair comes back: the configuration, and what it has
                no attribute for.

        Raises:
            ValueError: another kind of model, or no such name.
            OSError: the Hub cannot be reached or shows no such repository.
        """
        return_unused = kwargs.pop("return_unused_kwargs", False)
        location = find_location(pretrained_model_name_or_path)
        values = described(location, HubOptions.taken_from(kwargs))
        plain = cls(**values)
        changed = {key: value for key, value in kwargs.items() if hasattr(plain, key)}
        config = cls(**{**values, **changed}) if changed else plain
        config.name_or_path = location.name
        rest = {key: value for key, value in kwargs.items() if key not in changed}
        return (config, rest) if return_unused else config


def described(location: Location, options: HubOptions) -> dict[str, Any]:
    """The settings of a model, read without its tensors, as `BiRefNetConfig` takes it.

    Raises:
        ValueError: its config.json is of another kind of model, or of a newer version.
    """
    values = read_config(location, options)
    kind = values.pop("model_type", None)
    if kind not in _MODEL_TYPES:
        raise ValueError(f"{location.name} is a {kind} model, not a BiRefNet")
    if check_settings(values, location.name) and "network" in values:
        return values
    checkpoint = location.checkpoint
    values["network"] = checkpoint.preset if checkpoint else None
    if checkpoint is not None:
        values |= {
            "name": checkpoint.name,
            "licence": checkpoint.licence,
            "source": checkpoint.addresses[0],
        }
        values["preprocess"] = checkpoint.preprocess.to_dict()
    return values


def _network(given: str | Mapping[str, object] | NetworkConfig) -> NetworkConfig:
    if isinstance(given, NetworkConfig):
        return given
    return preset(given) if isinstance(given, str) else NetworkConfig.from_dict(dict(given))


def _preprocess(given: Mapping[str, object] | Preprocess | None) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    return Preprocess.from_dict(given or {})
