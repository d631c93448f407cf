"""`birefnet explain`: a picture's way through the network, drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from birefnet.cli.options import (
    Device,
    GroupedCommand,
    Json,
    Model,
    NetworkConfigText,
    ResolutionText,
    check_output,
    examples,
    parse_resolution,
    with_network_config,
)
from birefnet.errors import counted, require
from birefnet.terminal import progress_bar, say

EXAMPLES = examples(
    "birefnet explain photo.jpg",
    "birefnet explain photo.jpg -o photo.html --point 0.5,0.3",
    "birefnet explain photo.jpg --model general --panels panels",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(explain)


def explain(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A file.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=check_output,
            metavar="FILE",
            help="The figure: ends with .png, .svg, .pdf or .html.",
            show_default="NAME.explain.png beside the picture",
        ),
    ] = None,
    model: Model = None,
    network_config: NetworkConfigText = None,
    point: Annotated[
        str | None,
        typer.Option(
            "--point",
            metavar="X,Y",
            help="Pixel of the receptive field, in pixels or shares.",
            show_default="the least decided one",
        ),
    ] = None,
    field: Annotated[
        bool, typer.Option(help="Draw the receptive field, which needs a backward pass.")
    ] = True,
    panels: Annotated[
        Path | None,
        typer.Option("--panels", metavar="FOLDER", help="Also write every panel as a picture."),
    ] = None,
    resolution: ResolutionText = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw the maps inside the network between a picture and its matte.

    Encoder maps, image patches, features, coarse predictions, gradients and attention of every
    stage, uncertainty, and what one pixel of the matte depends on.
    """
    require("`birefnet explain`", "torch")
    from birefnet.explain.figure import check_figure_path
    from birefnet.inference.guidance import parse_point

    target = output or _beside(picture)
    check_figure_path(target)
    spot = None
    if point is not None:
        parsed = parse_point(point)
        spot = (parsed.x, parsed.y)
    with progress_bar("explain", show=not as_json) as progress:
        from birefnet.explain import explain as explain_picture

        explanation = explain_picture(
            picture,
            with_network_config(model, network_config),
            point=spot,
            field=field,
            resolution=parse_resolution(resolution),
            device=device,
        )
        progress(0, None, "draw")
        target.parent.mkdir(parents=True, exist_ok=True)
        explanation.save(target)
        written = [] if panels is None else explanation.save_panels(panels)
    if as_json:
        typer.echo(json.dumps(explanation.summary() | {"figure": str(target)}, indent=2))
    else:
        more = f", {counted(len(written), 'panel')} to {panels}" if written else ""
        say(f"{explanation.title}: figure written to {target}{more}")


def _beside(picture: str) -> Path:
    return Path(picture).with_suffix(".explain.png")
