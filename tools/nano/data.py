"""The mixture of data sets that nano is trained on, at picture sizes that change in phases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from birefnet.imaging.geometry import Preprocess
from birefnet.training.data.dataset import TrainingDataset
from birefnet.training.data.settings import DataSettings
from tools.nano.split import backgrounds

# Relative weights; kinds that a folder lacks are left out.
PHOTOS = {
    "agreed": 26, "clothing": 13, "cats": 13, "animals": 10, "portraits": 9, "mixed": 18,
    "leaves": 3,
}  # fmt: skip
CUTOUTS = {"renders": 19, "renders_simple": 4, "emoji": 6, "clipart": 4, "logos": 2}
THIN = "thin:2000"
THIN_WEIGHT = 5


@dataclass(frozen=True)
class Phase:
    """A part of a run at one picture size [px]."""

    steps: int
    size: int


def parse_phase(text: str) -> Phase:
    """`1200x256` → 1200 steps at 256 pixels."""
    steps, size = text.split("x")
    return Phase(int(steps), int(size))


def sources(part: Path) -> tuple[str, ...]:
    """`DataSettings.sources` of a folder that `tools.nano.split` or `tools.nano.pack` wrote."""
    weights = {f"{part / 'photos' / kind}": weight for kind, weight in PHOTOS.items()}
    weights |= {f"{part / 'cutouts' / kind}": weight for kind, weight in CUTOUTS.items()}
    weights = {path: weight for path, weight in weights.items() if Path(path).is_dir()}
    if not weights:
        raise ValueError(f"{part} holds no photos and no cut-outs; write it with tools.nano.split")
    weights[THIN] = THIN_WEIGHT
    total = sum(weights.values())
    return tuple(f"{path}={100 * weight / total:.3f}%" for path, weight in weights.items())


def settings_for(part: Path, settings: DataSettings) -> DataSettings:
    """The settings of a recipe with the pictures of a folder."""
    return replace(settings, sources=sources(part), backgrounds=backgrounds(part))


class PhasedData(TrainingDataset):
    """Training data whose batches have the size of the phase that a step belongs to.

    Args:
        settings: of the data.
        seed: of the samples.
        preprocess: whose mean and standard deviation normalise.
        phases: one after the other.
    """

    def __init__(
        self, settings: DataSettings, seed: int, preprocess: Preprocess, phases: tuple[Phase, ...]
    ) -> None:
        super().__init__(settings, train=True, seed=seed, preprocess=preprocess)
        self.phases = phases

    def size_at(self, step: int) -> tuple[int, int]:
        """Height and width [px] at `step`."""
        for phase in self.phases:
            if step < phase.steps:
                return phase.size, phase.size
            step -= phase.steps
        raise IndexError("the step lies behind the last phase")
