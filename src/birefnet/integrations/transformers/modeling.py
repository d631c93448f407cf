"""BiRefNet as a model of `transformers`: the same network, under the official names."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from birefnet.integrations.transformers.configuration import BiRefNetConfig, described
from birefnet.integrations.transformers.devices import place_model, resolve_dtype
from birefnet.integrations.transformers.loading import HubOptions, find_files, find_location
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig
from birefnet.weights.checkpoint import Loaded, load_checkpoint
from birefnet.weights.layouts import from_official, is_official, to_official

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor
    from birefnet.training.loss_settings import LossSettings

_INNER = "network."
# Arguments of `from_pretrained` that have nothing to decide here: weights are always read without
# a second copy, from safetensors, without remote code, and there is one kind of attention.
_WITHOUT_EFFECT = (
    *("low_cpu_mem_usage", "trust_remote_code", "code_revision", "weights_only", "proxies"),
    *("use_safetensors", "attn_implementation", "offload_state_dict", "adapter_kwargs"),
    *("resume_download", "_from_auto", "_from_pipeline", "_commit_hash", "_fast_init"),
)

_SAVING = ("max_shard_size", "variant", "save_peft_format")


@dataclass
class BiRefNetOutput(ModelOutput):
    """The output of the model; `output[-1]` is `logits`, as with the official code.

    Attributes:
        loss: with `labels`, a number.
        stages: with `labels` or `output_stages`, coarse logits (B,1,h,w) at strides 32, 16 and 8.
        gradients: likewise, gradient logits of the outward reference at these strides.
        logits: (B,1,H,W); their sigmoid is the matte.
    """

    loss: Tensor | None = None
    stages: tuple[Tensor, ...] | None = None
    gradients: tuple[Tensor, ...] | None = None
    logits: Tensor | None = None


class BiRefNetForImageSegmentation(PreTrainedModel):
    """A `birefnet.network.birefnet.BiRefNet` behind the interface of `transformers`.

    Its state dict carries the names of the official releases, so what it saves is read by the
    official code, by `birefnet.load` and by `from_pretrained` alike; it loads these names and those
    of this package.

    Attributes:
        network: the network itself.
        loss_settings: weights of the losses that `labels` ask for.
    """

    config_class = BiRefNetConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    # Their maps meet again inside, so each stays on one device.
    _no_split_modules = ("Encoder", "Decoder", "ReconstructionBlock")

    def __init__(self, config: BiRefNetConfig, network: BiRefNet | None = None) -> None:
        from birefnet.training.loss_settings import LossSettings

        super().__init__(config)
        self.network = build_network(config.network_config) if network is None else network
        if self.network.preprocess is not None:  # it belongs to the weights
            self.config.preprocess = self.network.preprocess.to_dict()
        self.loss_settings: LossSettings = LossSettings()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `build_network` has initialised all modules."""

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_stages: bool = False,
        return_dict: bool | None = None,
    ) -> BiRefNetOutput | tuple[Tensor, ...]:
        """From normalised pictures to logits, and to a loss where `labels` are given.

        Args:
            pixel_values: (B,3,H,W) as `BiRefNetImageProcessor` makes them, H and W multiples of 32.
            labels: mattes (B,H,W) or (B,1,H,W) in [0,1], at the size of `pixel_values`.
            output_stages: give what training supervises, too.
            return_dict: `False` for a tuple without the entries that are `None`.

        Raises:
            ValueError: another shape.
        """
        if labels is None and not output_stages:
            output = BiRefNetOutput(logits=self.network(pixel_values))
        else:
            output = self.network(pixel_values, supervised=True)
            loss = None
            if labels is not None:
                from birefnet.training.objective import Objective

                truth = _as_truth(labels, pixel_values)
                # A guidance channel, where a network has one, is no part of the picture.
                loss, _ = Objective(self.loss_settings)(output, pixel_values[:, :3], truth)
            output = BiRefNetOutput(
                loss=loss,
                stages=tuple(output.stages[:-1]) or None,
                gradients=tuple(output.gradients) or None,
                logits=output.logits,
            )
        if return_dict is None:
            return_dict = bool(self.config.return_dict)
        return output if return_dict else output.to_tuple()

    def predictor(self, *, device: str = "auto", dtype: str = "auto") -> Predictor:
        """A `birefnet.Predictor` with these weights: any picture in, mattes of its size out.

        It runs a simplified copy of the network, which is faster and equal up to rounding.
        """
        from birefnet.inference.predictor import Predictor
        from birefnet.network.simplify import simplify

        config = self.config
        return Predictor(
            simplify(self.network),
            config.preprocess_config,
            device=device,
            dtype=dtype,
            name=config.name,
            licence=config.licence,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *args: object,
        config: BiRefNetConfig | str | os.PathLike[str] | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A model with trained weights, in evaluation mode. Runs no code but this package's.

        Args:
            pretrained_model_name_or_path: an id on Hugging Face (the official ones and any other
                with these weights), a directory, a .safetensors file, or a name of the table
                (`nano`, `general` …; `birefnet models list`).
            config: in place of what lies beside the weights.
            state_dict: these tensors in place of a file's.
            dtype, torch_dtype: of the weights; `None` for float32, `auto` for what the file holds.
            device_map: a device, `auto` (and the other names of accelerate), or a dictionary from
                modules (`network.encoder`, `network.squeeze`, `network.decoder`) to devices.
            output_loading_info: give a pair, of which the second lists what did not fit (nothing:
                weights fit wholly or are refused).
            **kwargs: `cache_dir`, `force_download`, `local_files_only`, `token`, `revision`,
                `subfolder` and `variant` as everywhere in transformers, `offload_folder` and
                `max_memory` with `device_map`; others are attributes of the configuration.

        Raises:
            ValueError: weights that cannot be found, read or fitted (a `WeightsError`), or an
                argument without a meaning here.
            OSError: the Hub cannot be reached or shows no such repository.
        """
        if args:
            raise TypeError("from_pretrained takes the name alone without a keyword")
        if kwargs.pop("quantization_config", None) is not None:
            raise ValueError(
                "quantised loading is not supported: export to int8 instead, see `birefnet export`"
            )
        if kwargs.pop("use_safetensors", None) is False:
            raise ValueError("only .safetensors are read; leave use_safetensors out")
        kwargs.pop("ignore_mismatched_sizes", None)  # they are refused, whatever it says
        placing = {key: kwargs.pop(key, None) for key in ("max_memory", "offload_folder")}
        kwargs.pop("offload_buffers", None)
        options = HubOptions.taken_from(kwargs)
        for key in _WITHOUT_EFFECT:
            kwargs.pop(key, None)
        precision = resolve_dtype(torch_dtype if dtype is None else dtype)

        described_by: BiRefNetConfig | None = (
            BiRefNetConfig.from_pretrained(config)
            if isinstance(config, (str, os.PathLike))
            else config
        )
        if state_dict is not None:
            model = cls(described_by or BiRefNetConfig(**kwargs))
            model.load_state_dict(state_dict)
            if precision is not None:
                model.to(precision)
        else:
            if pretrained_model_name_or_path is None:
                raise ValueError("give the name of a model, or state_dict and config")
            model = cls._loaded(
                pretrained_model_name_or_path, described_by, options, precision, kwargs
            )
        model.eval()
        if device_map is not None:
            model = place_model(model, device_map, **placing)
        if not output_loading_info:
            return model
        keys = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
        return model, {key: [] for key in keys}

    @classmethod
    def _loaded(
        cls,
        name: str | os.PathLike[str],
        config: BiRefNetConfig | None,
        options: HubOptions,
        dtype: torch.dtype | None,
        changed: dict[str, object],
    ) -> BiRefNetForImageSegmentation:
        location = find_location(name)
        if config is None:
            config = BiRefNetConfig(**described(location, options))
        for key, value in changed.items():
            if not hasattr(config, key):
                raise ValueError(f"from_pretrained takes no {key!r}, and a BiRefNet has none")
            setattr(config, key, value)
        architecture = NetworkConfig.from_dict(config.network) if config.network else None
        is_told = config.network is not None or "preprocess" in changed
        preprocess = config.preprocess_config if is_told else None
        loaded = load_checkpoint(
            find_files(location, options), config=architecture, preprocess=preprocess, dtype=dtype
        )
        if config.network is None:
            _complete(config, loaded)
        config.name_or_path = location.name
        return cls(config, network=loaded.network)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: object,
    ) -> None:
        """Write model.safetensors, config.json and preprocessor_config.json to a directory.

        Args:
            save_directory: created if need be; `from_pretrained` and `birefnet.load` read it.
            is_main_process: whether this process writes.
            state_dict: tensors in place of the model's own, under the official names.
            push_to_hub: upload it too, see `push_to_hub`; `repo_id` defaults to the directory's
                name.
            **kwargs: `max_shard_size`, `variant` and `token` as everywhere in transformers.

        Raises:
            ValueError: another format than safetensors is asked for.
        """
        from birefnet.integrations.transformers.model_card import push, save_processor

        if kwargs.pop("safe_serialization", True) is False:
            raise ValueError("only .safetensors are written; leave safe_serialization out")
        if push_to_hub:
            named: dict[str, Any] = {"repo_id": os.path.basename(os.path.abspath(save_directory))}
            push(self, **named | kwargs)
            kwargs = {key: kwargs[key] for key in _SAVING if key in kwargs}
        super().save_pretrained(
            save_directory, is_main_process=is_main_process, state_dict=state_dict, **kwargs
        )
        if is_main_process:
            save_processor(self, os.fspath(save_directory))

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Upload the model with a generated model card.

        Takes `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr`
        and `tags` as everywhere in transformers, and `notes` (Markdown for the card).
        """
        from birefnet.integrations.transformers.model_card import push

        for key in ("use_temp_dir", "safe_serialization"):
            kwargs.pop(key, None)
        return push(self, repo_id, **kwargs)

    def state_dict(
        self,
        *args: object,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """All tensors, under the official names."""
        own = super().state_dict(keep_vars=keep_vars)
        inner = {key.removeprefix(_INNER): value for key, value in own.items()}
        destination = OrderedDict() if destination is None else destination
        destination.update({prefix + key: value for key, value in to_official(inner).items()})
        return destination

    def _load_from_state_dict(
        self, state_dict: dict[str, object], prefix: str, *args: Any, **kwargs: object
    ) -> None:
        """Official names, or this package's, become those of `network` before it reads them."""
        given = {key[len(prefix) :]: key for key in state_dict if key.startswith(prefix)}
        if not any(key.startswith(_INNER) for key in given):
            names = {key: key for key in given}
            renamed = from_official(names) if is_official(names) else names
            for new, old in renamed.items():
                state_dict[f"{prefix}{_INNER}{new}"] = state_dict.pop(given[old])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _complete(config: BiRefNetConfig, loaded: Loaded) -> None:
    """Add what the loaded weights say of themselves."""
    config.network = loaded.config.to_dict()
    config.preprocess = loaded.preprocess.to_dict()
    config.name = config.name or loaded.name
    config.licence = config.licence or loaded.licence
    config.source = config.source or loaded.source


def _as_truth(labels: Tensor, pixel_values: Tensor) -> Tensor:
    truth = labels if labels.dim() == 4 else labels.unsqueeze(1)
    expected = (pixel_values.shape[0], 1, *pixel_values.shape[2:])
    if truth.shape != expected:
        raise ValueError(
            f"got labels of shape {tuple(labels.shape)}; expected mattes {expected}, in [0, 1]"
        )
    return truth.to(pixel_values.dtype)
