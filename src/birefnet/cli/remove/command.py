"""`birefnet remove`: its options; `plan` checks them and `run` does the work."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from birefnet.cli.common import Device, Dtype, Json, MaxMegapixels, Model, check_output
from birefnet.cli.options import GroupedCommand, with_options
from birefnet.options import Options

EXAMPLES = """Examples:

\b
  birefnet remove photo.jpg
  birefnet remove photo.jpg -o shop.jpg --background white --crop --shadow ground
  birefnet remove 'shots/**/*.jpg' -o cutouts/ --format webp
"""


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(remove)


@with_options()
def remove(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Pictures, folders, quoted patterns such as 'shots/**/*.jpg', URLs, or - for "
            "standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file, a folder, a URL, or - for standard output.",
            show_default="NAME.cutout.png beside each input",
        ),
    ] = None,
    *,
    model: Model = None,
    options: Options,
    high_resolution: Annotated[
        bool, typer.Option("--high-resolution", help="The same as --refine-passes 2.")
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="auto, torch, openvino or onnx; or ray for a cluster.",
        ),
    ] = "auto",
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Of a table (Parquet or WebDataset, with ray): what holds the pictures.",
            show_default="image; jpg in shards",
        ),
    ] = None,
    name_column: Annotated[
        str | None,
        typer.Option(
            "--name-column",
            metavar="NAME",
            help="Of a table: what names the files.",
            show_default="the picture's contents; the key in shards",
        ),
    ] = None,
    max_megapixels: MaxMegapixels = 200,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite/--skip-existing",
            help="Do all pictures, or none whose output exists.",
            show_default="none that the manifest calls finished",
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Search folders inside folders.")] = True,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="What became of each picture, a line of JSON each; '' for none.",
            show_default="manifest.jsonl in the output folder",
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="Of pictures whose reading or writing failed in a way that may pass."
        ),
    ] = 2,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with pictures that come later.")
    ] = False,
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
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            callback=check_output,
            metavar="FILE.html",
            help="Write a page of before and after, the least certain first, and what failed.",
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end how long each stage took.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove the background of pictures.

    Exit status 0; 1 if a picture failed (the others are done); 2 if the command makes no sense.
    """
    from birefnet.cli.loading import start_loading

    loading = start_loading(model, device, dtype, engine)
    from birefnet.cli.remove.inputs import InputError
    from birefnet.cli.remove.plan import plan
    from birefnet.cli.remove.run import run
    from birefnet.imaging.picture import Limits

    try:
        work = plan(
            inputs,
            output,
            replace(options, passes=2) if high_resolution else options,
            model=model,
            device=device,
            dtype=dtype,
            engine=engine,
            column=column,
            name_column=name_column,
            overwrite=overwrite,
            recursive=recursive,
            manifest=manifest,
            retries=retries,
            watch=watch,
            workers=jobs,
            as_json=as_json,
            profile=profile,
            report=report,
            limits=Limits.of_megapixels(max_megapixels),
            loading=loading,
        )
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(run(work))
