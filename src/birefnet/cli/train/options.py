"""The options of `birefnet train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from birefnet.cli.common import Device, check_output


@dataclass(frozen=True)
class TrainOptions:
    """The command line, as typed."""

    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", metavar="NAME", help="The recipe; see --list."),
    ] = None
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="paper, official or recommended.",
            show_default="recommended",
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH[=WEIGHT]",
            help="Pictures with ground truth: a folder with im/ and gt/, IMAGES::MASKS, a folder "
            "of cut-outs, hf:NAME or wds:SHARDS; may be repeated. =2 shows a set twice as often, "
            "=20% makes it 20 % of the epoch.",
        ),
    ] = None
    validate: Annotated[
        list[str] | None,
        typer.Option(
            "--validate",
            metavar="PATH|none",
            help="Validation split: pictures with ground truth that are not used for training; "
            "may be repeated.",
            show_default="a tenth of --data",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", callback=check_output, metavar="RUN", help="Folder of the run."
        ),
    ] = None
    init: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH", help="Weights to start from, as for `birefnet remove -m`."
        ),
    ] = None
    replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH[=SHARE%]",
            help="General pictures for a part of each epoch, so that the network does not forget "
            "them.",
            show_default="20%",
        ),
    ] = None
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Train only the decoder: faster, less memory.")
    ] = False
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Any field of the recipe, such as schedule.epochs=20; may be repeated.",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Fields of the recipe from a file."),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in RUN from its last save.")
    ] = False
    device: Device = "auto"
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check data, weights and memory, print the recipe, write nothing."
        ),
    ] = False
    check_memory: Annotated[
        bool, typer.Option(help="Refuse a batch that needs more memory than is free.")
    ] = True
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Show the recipes and what to expect of them.")
    ] = False
