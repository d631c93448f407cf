"""The options of `birefnet train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from birefnet.cli.options import Assignments, Device, check_output, setting


@dataclass(frozen=True)
class TrainOptions:
    """The command line, as typed."""

    recipe: str | None = setting(None, "The recipe; see --list.", "--recipe", "-r", metavar="NAME")
    variant: str | None = setting(
        None, "paper, official or recommended.", metavar="NAME", show_default="recommended"
    )
    data: list[str] | None = setting(
        None,
        "Pictures with ground truth: a folder with im/ and gt/, IMAGES::MASKS, a folder "
        "of cut-outs, hf:NAME or wds:SHARDS; may be repeated. =2 shows a set twice as often, "
        "=20% makes it 20 % of the epoch.",
        "--data",
        "-d",
        metavar="PATH[=WEIGHT]",
    )
    validate: list[str] | None = setting(
        None,
        "Validation split: pictures with ground truth that are not used for training; "
        "may be repeated.",
        metavar="PATH|none",
        show_default="a tenth of --data",
    )
    output: Path | None = setting(
        None, "Folder of the run.", "--output", "-o", callback=check_output, metavar="RUN"
    )
    init: str | None = setting(
        None, "Weights to start from, as for `birefnet remove -m`.", metavar="NAME|PATH"
    )
    replay: list[str] | None = setting(
        None,
        "General pictures for a part of each epoch, so that the network does not forget them.",
        metavar="PATH[=SHARE%]",
        show_default="20%",
    )
    freeze_encoder: bool = setting(
        False, "Train only the decoder: faster, less memory.", "--freeze-encoder"
    )
    assignments: Assignments = None
    config: Path | None = setting(None, "Fields of the recipe from a file.", metavar="FILE.yaml")
    resume: bool = setting(False, "Continue the run in RUN from its last save.", "--resume")
    device: Device = "auto"
    dry_run: bool = setting(
        False, "Check data, weights and memory, print the recipe, write nothing.", "--dry-run"
    )
    check_memory: bool = setting(True, "Refuse a batch that needs more memory than is free.")
    list_recipes: bool = setting(False, "Show the recipes and what to expect of them.", "--list")
