"""The folder of a run: what lies in it, written so that a crash at any moment leaves it whole.

    recipe.yaml     the resolved recipe
    state.pt        all that resuming needs
    last/, best/    models for `birefnet.load`: model.safetensors and config.json
    metrics.jsonl   one line for each report: step, losses, rates, scores
    previews/       image | truth | matte of some validation pictures
    logs/           what TensorBoard and other trackers write

Files are written under another name, flushed to disk and renamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birefnet.errors import BiRefNetError, UsageError, WeightsError, needs_extra

with needs_extra("torch", __name__):
    import torch

from birefnet.files import replace_file, write_atomic

STATE_FORMAT = 1
_PART = ".part"  # a file that is being written


class RunError(BiRefNetError):
    """A run that cannot be saved or read."""


class RunFolderError(RunError, UsageError):
    """A run folder that is there already, is missing, or holds something else."""


class RunFolder:
    """Paths of one run, and the ways to write them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"
        self.last, self.best = path / "last", path / "best"
        self.previews = path / "previews"

    def check(self, *, resume: bool) -> None:
        """Refuse to overwrite a run, and to resume what is not there.

        Raises:
            RunFolderError: one sentence on which of the two.
        """
        if resume:
            if not self.recipe.is_file():
                raise RunFolderError(
                    f"there is no run in {self.path} (recipe.yaml is missing); check the path, or "
                    "start it without --resume"
                )
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "holds a run" if self.recipe.is_file() else "exists and is not empty"
            cure = "continue it with --resume, or " if self.recipe.is_file() else ""
            raise RunFolderError(f"{self.path} {what}; {cure}give another folder")

    def save_state(self, state: Mapping[str, object]) -> None:
        """Write state.pt: the file before or the new one is there at any moment, never a part."""
        temporary = self.state.with_name(self.state.name + _PART)
        try:
            with temporary.open("wb") as file:
                torch.save({"format": STATE_FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            replace_file(temporary, self.state)
        except (OSError, RuntimeError) as failure:  # torch says RuntimeError for a full disk
            temporary.unlink(missing_ok=True)
            reason = getattr(failure, "strerror", None) or str(failure).splitlines()[0]
            raise RunError(
                f"cannot write {self.state}: {reason}; the save before it is whole, make room and "
                "continue with --resume"
            ) from None

    def load_state(self) -> dict[str, Any]:
        """The state that `save_state` wrote, on the CPU; no code in the file is run.

        Raises:
            RunError: no such file, or it is damaged.
        """
        if not self.state.is_file():
            raise RunError(
                f"{self.state} is missing, so the run cannot be resumed; start a new one"
            )
        try:
            state = torch.load(self.state, weights_only=True, map_location="cpu")
        except Exception as failure:  # torch raises many kinds for a damaged file
            reason = str(failure).splitlines()[0]
            raise RunError(f"{self.state} cannot be read ({reason}); start a new run") from None
        if state.pop("format", None) != STATE_FORMAT:
            raise RunError(f"{self.state} is not of this version's format; start a new run")
        return state

    def remove_leftovers(self) -> None:
        """Delete what a killed process was writing."""
        for folder in (self.path, self.last, self.best, self.previews):
            if folder.is_dir():
                for path in folder.iterdir():
                    is_part = path.name.endswith((_PART, ".tmp")) or path.name.startswith(
                        (".model.safetensors.", ".config.json.")
                    )
                    if is_part and path.is_file():
                        path.unlink(missing_ok=True)

    def append_metrics(self, values: Mapping[str, object]) -> None:
        """Add a line to metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as failure:
            raise RunError(f"cannot write {self.metrics}: {failure.strerror}") from None

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that a crash cut short is left out."""
        lines = []
        if self.metrics.is_file():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return lines

    def forget_metrics_after(self, step: int) -> None:
        """Drop what was reported after `step`, which will be trained again."""
        kept = [line for line in self.read_metrics() if line.get("step", 0) <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomic(self.metrics, text.encode())


def make_folder(path: Path) -> None:
    """Create a folder; refuses in one sentence where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise WeightsError(f"cannot make the folder {path}: {failure.strerror}") from None
