"""`birefnet remove`: what can be asked for; `removal.py` does it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birefnet.cli.common import (
    Device,
    Dtype,
    Json,
    Model,
    ResolutionText,
    parse_resolution,
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True)(remove)


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
    model: Model = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            "-t",
            metavar="TYPE",
            help="cutout, mask, foreground, colour, green, white, blur or overlay.",
        ),
    ] = "cutout",
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            "-b",
            metavar="COLOUR|FILE",
            help="Behind the subject: white, '#rrggbb', 'r,g,b' or a picture.",
        ),
    ] = None,
    resolution: ResolutionText = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="X0,Y0,X1,Y1",
            help="Around what is meant, in pixels or as shares such as 0.2,0,0.8,1; several are "
            "united.",
        ),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option("--point", metavar="X,Y", help="On what is meant, in pixels or shares."),
    ] = None,
    other_points: Annotated[
        list[str] | None,
        typer.Option("--not-point", metavar="X,Y", help="On what is not meant."),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            "--guide", metavar="FILE", help="Coarse mask or scribble of what is meant: a picture."
        ),
    ] = None,
    passes: Annotated[
        int,
        typer.Option(
            "--refine-passes",
            min=1,
            max=2,
            help="2 redoes edges at the picture's own resolution.",
        ),
    ] = 1,
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
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            help="Pictures that run together.",
            show_default="4 on CUDA, else 1",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="png, webp, jpeg, tiff, avif or gif.",
            show_default="by OUT's suffix, else png; animations keep theirs",
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of jpeg, webp and avif.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1, help="Make each pixel all or nothing: all where alpha reaches this."
        ),
    ] = None,
    mask_blur: Annotated[float, typer.Option(min=0, help="Soften the edge [px].")] = 0,
    mask_offset: Annotated[
        float, typer.Option(help="Move the edge outwards, or inwards if negative [px].")
    ] = 0,
    refine: Annotated[
        bool, typer.Option(help="Take the old background's colour out of the edges.")
    ] = True,
    keep_profile: Annotated[
        bool, typer.Option("--keep-profile", help="Keep ICC profiles instead of making sRGB.")
    ] = False,
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
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end how long each stage took.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove the background of pictures.

    Exit status 0; 1 if a picture failed (the others are done); 2 if the command makes no sense.
    """
    from birefnet.cli import pipeline, removal
    from birefnet.cli.inputs import InputError
    from birefnet.options import Options

    try:
        plan = removal.plan(
            inputs,
            output,
            Options(
                kind=kind,
                background=background,
                resolution=parse_resolution(resolution),
                batch_size=batch_size,
                format=format,
                quality=quality,
                threshold=threshold,
                mask_blur=mask_blur,
                mask_offset=mask_offset,
                refine=refine,
                keep_profile=keep_profile,
                boxes=tuple(boxes or ()),
                points=tuple(points or ()),
                other_points=tuple(other_points or ()),
                guide=guide,
                passes=passes,
            ),
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
        )
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(pipeline.run(plan))
