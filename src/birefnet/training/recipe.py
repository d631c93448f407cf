"""A recipe: everything that decides what a training run computes, as one frozen dataclass.

Every field has a dotted name (`schedule.epochs`, `loss.iou`), which the command line and YAML files
use; `Recipe.to_dict` and `Recipe.from_dict` go to plain data and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from birefnet.errors import needs_extra
from birefnet.files import write_atomic
from birefnet.training import settings
from birefnet.training.data.settings import DataSettings
from birefnet.training.loss_settings import LossSettings
from birefnet.training.settings import SettingsError

Task = Literal["segmentation", "matting"]
Variant = Literal["paper", "official", "recommended"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
BatchNormMode = Literal["train", "frozen", "synchronised"]


@dataclass(frozen=True)
class About:
    """Time, memory and score of a recipe, said before it starts.

    Attributes:
        purpose: what it is for.
        command: a command that works as typed once the data is there.
        time: expected duration, and on what.
        memory: expected peak memory of the device, and for which batch.
        score: what its weights reach, or what its source reports, and on which set.
        source: where the values are from.
    """

    purpose: str = ""
    command: str = ""
    time: str = ""
    memory: str = ""
    score: str = ""
    source: str = ""


@dataclass(frozen=True)
class OptimiserSettings:
    """How a gradient becomes a step.

    Attributes:
        name: `adamw`, `adam` (weight decay joins the gradient) or `sgd` (with momentum).
        rate: peak learning rate of the decoder.
        encoder_factor: of `rate`, for the backbone.
        layer_decay: further factor for each block of the backbone, counted from its last one
            towards the image (1: none). Source: Clark et al., ELECTRA, ICLR 2020.
        offset_factor: of `rate`, for offsets and modulation of deformable convolutions.
        guidance_factor: of `rate`, for what reads a guidance channel, which starts at 0.
        batch_scaling: `none`; `sqrt` or `linear` multiply every rate by that function of (pictures
            per step / `reference_batch`).
        reference_batch: pictures per step that `rate` is meant for.
        weight_decay: of matrices; of vectors (norms, biases) too with `decay_vectors`.
        decay_vectors: as the released code does.
        betas: of Adam.
        momentum: of SGD.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    rate: float = 1e-4
    encoder_factor: float = 1.0
    layer_decay: float = 1.0
    offset_factor: float = 1.0
    guidance_factor: float = 1.0
    batch_scaling: Literal["none", "sqrt", "linear"] = "none"
    reference_batch: int = 4
    weight_decay: float = 0.01
    decay_vectors: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _at_least(self, 0, "encoder_factor", "offset_factor", "guidance_factor")
        _at_least(self, 0, "weight_decay", "momentum")
        _at_least(self, 1, "reference_batch")
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}; it must be above 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, how many pictures at a time, and how the learning rate moves.

    Attributes:
        epochs: passes over the data; or
        steps: steps of the optimiser (then `epochs` is not used).
        batch_size: pictures that one process computes at a time.
        accumulate: such batches per step; their gradients are averaged, so that `batch_size` 2 and
            `accumulate` 4 is the step of 8 pictures.
        warmup: steps over which the rate grows linearly from 0 to its peak.
        shape: what follows: `constant`, `cosine` (to `last_factor`) or `step` (times `step_factor`
            at each of `milestones`).
        last_factor: of the peak rate, at the end of `cosine`.
        milestones: epochs for `step`; negative ones count from the end.
        step_factor: what each milestone multiplies the rate by.
        ema: decay of the averaged weights, which are those that are validated and saved as a model;
            0 uses the weights as they are. It starts lower, so that short runs average too.
    """

    epochs: int = 100
    steps: int | None = None
    batch_size: int = 4
    accumulate: int = 1
    warmup: int = 0
    shape: Literal["constant", "cosine", "step"] = "cosine"
    last_factor: float = 0.0
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1
    ema: float = 0.0

    def __post_init__(self) -> None:
        _at_least(self, 1, "epochs", "steps", "batch_size", "accumulate")
        _at_least(self, 0, "warmup", "last_factor", "step_factor")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be at least 0 and below 1")
        if self.milestones and self.shape != "step":
            raise ValueError(f"milestones need shape=step, and shape is {self.shape}")


@dataclass(frozen=True)
class LoopSettings:
    """How a step is computed.

    Attributes:
        precision: of activations: `bf16` and `fp16` (with a gradient scaler) are mixed precision,
            weights stay fp32. `auto` is bf16 on GPUs that have it and fp32 elsewhere.
        compile: run the network through torch.compile; not with `checkpoint_activations`, which
            it cannot trace.
        channels_last: memory format of pictures and weights; quicker nearly everywhere.
        checkpoint_activations: compute the backbone's inner activations twice instead of keeping
            them: less memory, about a third more time, the same gradients.
        batch_norm: of the decoder: `train`; `frozen` keeps statistics and weights; `synchronised`
            takes statistics over all processes (GPUs only).
        frozen_encoder_norms: the backbone's BatchNorms keep their statistics and weights; `None`
            does so where the backbone is pretrained.
        frozen_encoder: the backbone keeps its weights altogether.
        frozen_blocks: the backbone's stem and so many blocks keep their weights.
        clip: largest norm of the gradient; 0 does not clip.
        seed: of new weights, data and dropout.
        deterministic: ask PyTorch for deterministic kernels on GPUs too; slower.
        workers: processes that prepare pictures; `None` fits the machine, 0 prepares them in turn
            with the training.
        save_every: steps between saves; a crash loses at most so many.
        save_minutes: minutes between saves, sooner in a young run: a crash loses at most a tenth
            of its time. Where saving is slow it waits until saving takes no more than a twentieth
            of the time. 0 saves by steps alone.
        log_every: steps over which the logged values are averaged.
        trackers: `tensorboard`, `wandb`, `mlflow`, `comet_ml` … as accelerate knows them.
    """

    precision: Precision = "auto"
    compile: bool = False
    channels_last: bool = True
    checkpoint_activations: bool = False
    batch_norm: BatchNormMode = "train"
    frozen_encoder_norms: bool | None = None
    frozen_encoder: bool = False
    frozen_blocks: int = 0
    clip: float = 1.0
    seed: int = 1
    deterministic: bool = False
    workers: int | None = None
    save_every: int = 200
    save_minutes: float = 5.0
    log_every: int = 20
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        _at_least(self, 0, "frozen_blocks", "clip", "seed", "workers", "save_minutes")
        _at_least(self, 1, "save_every", "log_every")
        if self.compile and self.checkpoint_activations:
            raise ValueError(
                "compile and checkpoint_activations do not go together, for torch.compile cannot "
                "trace what is computed twice; switch one of them off"
            )


@dataclass(frozen=True)
class ValidationSettings:
    """How a run is watched.

    Attributes:
        data: folders with im/ and gt/ that are never trained on.
        every: steps between validations; `None` validates at the end of each epoch.
        metrics: names of metrics, or groups, of `birefnet evaluate`.
        best_by: the one that decides which weights are `best`.
        pictures: at most so many, evenly spaced; 0 takes all.
        previews: pictures shown as image | truth | matte at each validation.
    """

    data: tuple[str, ...] = ()
    every: int | None = None
    metrics: tuple[str, ...] = ("iou", "mae", "s_measure")
    best_by: str = "iou"
    pictures: int = 200
    previews: int = 4

    def __post_init__(self) -> None:
        _at_least(self, 0, "pictures", "previews")
        _at_least(self, 1, "every")


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name, variant: what the recipe is called.
        task: `segmentation` (one or the other) or `matting` (how much).
        network: name of a preset of `birefnet.network.config.PRESETS`; `None` takes the network
            that `init` was trained with.
        network_overrides: fields of `NetworkConfig` that differ from the preset.
        init: weights to start from: whatever `birefnet.load` takes; `None` starts anew.
        encoder_weights: file with pretrained weights of the backbone alone, for a new network, or
            `imagenet` for those of its authors (downloaded if need be).
        data, loss, optimiser, schedule, loop, validation: see there.
        about: what to expect.
    """

    name: str = "own"
    variant: Variant = "recommended"
    task: Task = "segmentation"
    network: str | None = None
    network_overrides: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    encoder_weights: str | None = None
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    about: About = field(default_factory=About)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that YAML and JSON hold."""
        return settings.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises:
            SettingsError: an unknown name or an unfitting value.
        """
        return settings.from_dict(cls, values)

    def override(self, changes: Mapping[str, Any] | Iterable[str]) -> Recipe:
        """A recipe with some fields replaced.

        Args:
            changes: dotted name → value, nested mappings as in YAML, or texts `NAME=VALUE`.

        Raises:
            SettingsError: an unknown name or an unfitting value.

        Example:
            >>> Recipe().override(["schedule.epochs=20", "loop.precision=bf16"]).schedule.epochs
            20
        """
        if not isinstance(changes, Mapping):
            changes = settings.parse_assignments(changes)
        return settings.override(self, changes)

    def to_yaml(self) -> str:
        """All fields as YAML."""
        values = self.to_dict()
        return str(_yaml().safe_dump(values, sort_keys=False, allow_unicode=True, width=100))

    def save(self, path: Path) -> None:
        """Write the recipe as YAML."""
        write_atomic(path, self.to_yaml().encode())


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SettingsError: no such file, not YAML, or not a mapping.
    """
    yaml = _yaml()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise SettingsError(f"cannot read {path}: {failure.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        reason = " ".join(str(failure).split())
        raise SettingsError(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds no settings; write NAME: VALUE lines, see recipe.yaml")
    return values


def _yaml() -> Any:
    with needs_extra("train", "reading and writing recipes"):
        import yaml
    return yaml


def _at_least(part: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
