"""The options of `birefnet remove` that say how it goes about its work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from birefnet.cli.common import Device, Dtype, Json, MaxMegapixels, check_output


@dataclass(frozen=True)
class RunOptions:
    """How to do the work; `birefnet.options.Options` says what to make of each picture."""

    preset_name: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="A set of options by name, listed below; those given beside it come first.",
        ),
    ] = None
    presets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Own presets: a table [NAME] for each, of options as in Python.",
        ),
    ] = None
    high_resolution: Annotated[
        bool, typer.Option("--high-resolution", help="The same as --refine-passes 2.")
    ] = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="auto, torch, openvino or onnx; or ray for a cluster.",
        ),
    ] = "auto"
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Of a table (Parquet or WebDataset, with ray): what holds the pictures.",
            show_default="image; jpg in shards",
        ),
    ] = None
    name_column: Annotated[
        str | None,
        typer.Option(
            "--name-column",
            metavar="NAME",
            help="Of a table: what names the files.",
            show_default="the picture's contents; the key in shards",
        ),
    ] = None
    max_megapixels: MaxMegapixels = 200
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite/--skip-existing",
            help="Do all pictures, or none whose output exists.",
            show_default="none that the manifest calls finished",
        ),
    ] = None
    recursive: Annotated[bool, typer.Option(help="Search folders inside folders.")] = True
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="What became of each picture, a line of JSON each; '' for none.",
            show_default="manifest.jsonl in the output folder",
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="Of pictures whose reading or writing failed in a way that may pass."
        ),
    ] = 2
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with pictures that come later.")
    ] = False
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Threads that read, and as many that write, beside the network; with ray: "
            "networks.",
            show_default="2; with ray as many as fit",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            callback=check_output,
            metavar="FILE.html",
            help="Write a page of before and after, the least certain first, and what failed.",
        ),
    ] = None
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end how long each stage took.")
    ] = False
    as_json: Json = False
