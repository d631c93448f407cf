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
            help="A named set of options, listed below; options that you give replace its values.",
        ),
    ] = None
    presets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Your own presets: a table [NAME] for each, with options as in Python.",
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
            help="Column with the pictures, in a table (Parquet or WebDataset, with ray).",
            show_default="image; jpg in shards",
        ),
    ] = None
    name_column: Annotated[
        str | None,
        typer.Option(
            "--name-column",
            metavar="NAME",
            help="Column with the names of the files, in a table.",
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
            help="File with the result of each picture, one line of JSON each; '' for none.",
            show_default="manifest.jsonl in the output folder",
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="Retries of pictures after a temporary failure of reading or writing."
        ),
    ] = 2
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Wait for new pictures.")] = False
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Threads for reading, and as many for writing; with ray: number of networks.",
            show_default="2; with ray as many as fit",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            callback=check_output,
            metavar="FILE.html",
            help="Write an HTML report: before and after, the least certain pictures first, and "
            "failures.",
        ),
    ] = None
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of each stage at the end.")
    ] = False
    as_json: Json = False
