"""`birefnet remove`: what can be asked for; `removal.py` does it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birefnet.cli.common import (
    Background,
    BatchSize,
    Device,
    Dtype,
    Json,
    MaskBlur,
    MaskOffset,
    MaxMegapixels,
    Model,
    OutputType,
    Refine,
    ResolutionText,
    Threshold,
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
    kind: OutputType = "cutout",
    background: Background = None,
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
    batch_size: BatchSize = None,
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
    threshold: Threshold = None,
    mask_blur: MaskBlur = 0,
    mask_offset: MaskOffset = 0,
    matting: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="Find alpha anew where it is uncertain: guided, or closed-form, lbdm, lkm.",
        ),
    ] = "none",
    band: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Where that is, and a trimap's unknown: so far to both sides of the edge.",
            show_default="1.2 % of the longer side",
        ),
    ] = None,
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Each connected object by itself, NAME.1.png …, and a list of them, NAME.json.",
        ),
    ] = False,
    min_object: Annotated[
        str,
        typer.Option(metavar="PX|%", help="Smallest area of an object."),
    ] = "0.1%",
    crop: Annotated[bool, typer.Option("--crop", help="Trim to the subject.")] = False,
    crop_margin: Annotated[
        str,
        typer.Option(
            metavar="PX|%",
            help="Around it, in pixels or of its longer side; may reach beyond the picture.",
        ),
    ] = "0",
    aspect: Annotated[
        str | None,
        typer.Option(metavar="W:H", help="Shape of what is trimmed: square, 4:5 …"),
    ] = None,
    shadow: Annotated[
        str,
        typer.Option(
            metavar="SHADOW",
            help="Below the subject: ground, drop (on a wall), or keep the photograph's own.",
        ),
    ] = "none",
    shadow_strength: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Opacity, up to 1; of keep, the share of what is seen.",
            show_default="0.5; 0.4 for drop, 1 for keep",
        ),
    ] = None,
    shadow_blur: Annotated[
        float,
        typer.Option(metavar="B", help="Softness; 0 is hard, 1 usual."),
    ] = 1.0,
    shadow_angle: Annotated[
        float,
        typer.Option(
            metavar="DEGREES",
            help="Where it falls: 0 backwards, 90 to the right, 180 towards the viewer.",
        ),
    ] = 60.0,
    shadow_length: Annotated[
        float,
        typer.Option(metavar="L", help="In heights of the subject."),
    ] = 0.5,
    refine: Refine = True,
    keep_profile: Annotated[
        bool, typer.Option("--keep-profile", help="Keep ICC profiles instead of making sRGB.")
    ] = False,
    metadata: Annotated[
        str,
        typer.Option(
            metavar="keep|strip",
            help="Resolution (DPI), EXIF with the place (GPS), XMP and IPTC of the pictures.",
        ),
    ] = "keep",
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
    from birefnet.cli import pipeline, removal
    from birefnet.cli.inputs import InputError
    from birefnet.imaging.picture import Limits
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
                metadata=metadata,
                boxes=tuple(boxes or ()),
                points=tuple(points or ()),
                other_points=tuple(other_points or ()),
                guide=guide,
                passes=2 if high_resolution else passes,
                matting=matting,
                band=band,
                objects=objects,
                min_object=min_object,
                crop=crop,
                crop_margin=crop_margin,
                aspect=aspect,
                shadow=shadow,
                shadow_strength=shadow_strength,
                shadow_blur=shadow_blur,
                shadow_angle=shadow_angle,
                shadow_length=shadow_length,
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
            limits=Limits.of_megapixels(max_megapixels),
            loading=loading,
        )
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(pipeline.run(plan))
