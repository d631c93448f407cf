"""`birefnet export`: a network for ONNX Runtime, OpenVINO, TensorRT, torch.export or browsers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    MODEL_HELP,
    GroupedCommand,
    Json,
    NetworkConfigText,
    check_output,
    examples,
    parse_network_config,
    parse_resolution,
    setting,
    with_network_config,
    with_options,
)
from birefnet.terminal import console, progress_bar, say, warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from birefnet.export.request import ExportResult


EXAMPLES = examples(
    "birefnet export nano",
    "birefnet export lite -o lite.xml --precision int8 --calibrate pictures",
    "birefnet export runs/mine/best -o mine.onnx --with-preprocessing --tensorrt",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(export)


@dataclass(frozen=True)
class ExportOptions:
    """The command line of `birefnet export`."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=MODEL_HELP,
            show_default=False,
        ),
    ]
    network_config: NetworkConfigText = None
    output: Path | None = setting(
        None,
        "Ends with .onnx, .xml (OpenVINO) or .pt2 (torch); a folder for web.",
        "--output",
        "-o",
        callback=check_output,
        metavar="FILE|DIR",
        show_default="MODEL with the format's suffix",
    )
    format: str | None = setting(
        None,
        "onnx, openvino, torch, or web: a page that runs in the browser alone.",
        "--format",
        "-f",
        metavar="FORMAT",
        show_default="by FILE's suffix, else onnx",
    )
    precision: str = setting("fp32", "fp32, fp16 or int8.", "--precision", "-p", metavar="P")
    dynamic: bool = setting(
        False,
        "Leave batch, height and width free (multiples of 32). Automatic for weights "
        "with views of several sizes.",
        "--dynamic",
    )
    size: str | None = setting(
        None,
        "One fixed input size, multiples of 32.",
        metavar="N|WxH",
        show_default="all views of the weights",
    )
    standard_ops: bool = setting(
        False, "Write deformable convolution with ordinary operators.", "--standard-ops"
    )
    with_preprocessing: bool = setting(
        False,
        "Put the preprocessing into the graph: input of any size (uint8, NHWC), output matte.",
        "--with-preprocessing",
    )
    calibrate: Path | None = setting(
        None,
        "Pictures to calibrate int8, some dozens, similar to later input; the masks of the file "
        "are compared with the model's on some of them.",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
    )
    opset: int | None = setting(
        None, "Version of the ONNX operator set.", metavar="N", show_default="20"
    )
    tensorrt: bool = setting(
        False, "List operators of the ONNX file that TensorRT does not support.", "--tensorrt"
    )
    force: bool = setting(
        False, "Keep the file even if it differs too much from the network.", "--force"
    )
    as_json: Json = False


@with_options()
def export(
    context: typer.Context,
    options: ExportOptions,
) -> None:
    """Export a network, and compare the file with the network.

    Its logits and, for whole pictures with all views, its mattes are compared with those of the
    model; the comparison is printed and saved as FILE.json. FILE.run.py runs the file without
    birefnet. Exit status 1 if the file gives other mattes than the model.
    """
    from typing import cast, get_args

    from birefnet.export.request import SUFFIXES, Format, Request, check_extras, format_of
    from birefnet.inference.engines.base import Precision

    for option, value, choices in (
        ("--format", options.format, (*SUFFIXES, "web")),
        ("--precision", options.precision, get_args(Precision)),
    ):
        if value is not None and value not in choices:
            raise typer.BadParameter(f"{option} is {value!r}; give {', '.join(choices)}")
    if options.format == "web":
        from birefnet.cli.in_browser import export_site

        model = with_network_config(options.model, options.network_config) or options.model
        export_site(context, model, options.output, as_json=options.as_json)
        return
    given = parse_network_config(options.network_config)
    sides = _parse_size(options.size)
    chosen = options.format or (format_of(options.output) if options.output else "onnx")
    if options.tensorrt and chosen != "onnx":
        raise typer.BadParameter("--tensorrt reads ONNX files; give --format onnx")
    check_extras(cast(Format, chosen), options.precision)
    with progress_bar("export", show=not options.as_json) as progress:
        from birefnet.export.run import export as run
        from birefnet.export.run import to_dict
        from birefnet.network.simplify import simplify
        from birefnet.weights.checkpoint import load_checkpoint

        loaded = load_checkpoint(options.model, config=given)
        path = options.output or Path(loaded.name.replace("/", "--") + SUFFIXES[chosen])
        pictures: Sequence[NDArray] = ()
        paths: Sequence[Path] = ()
        if options.calibrate is not None:
            from birefnet.export.calibration import CalibrationPictures

            views = () if sides else loaded.preprocess.views
            pictures = CalibrationPictures(options.calibrate, loaded.preprocess, sides, views)
            paths = pictures.paths
        request = Request(
            simplify(loaded.network, inplace=True),
            loaded.preprocess,
            precision=cast(Precision, options.precision),
            size=sides,
            dynamic=options.dynamic,
            standard_ops=options.standard_ops,
            with_preprocessing=options.with_preprocessing,
            calibration=pictures,
            pictures=paths,
            opset=options.opset,
            name=loaded.name,
            licence=loaded.licence,
            source=loaded.source,
        )
        result = run(request, path, cast(Format, chosen), force=options.force, progress=progress)
    if options.as_json:
        import json

        typer.echo(json.dumps(to_dict(result), indent=2))
    else:
        _show(result)
    if options.tensorrt:
        _show_tensorrt(result)


def _parse_size(text: str | None) -> tuple[int, int] | None:

    size = parse_resolution(text, "--size")
    if size == "native":
        raise typer.BadParameter("--size is 'native'; give N or WxH")
    return (size, size) if isinstance(size, int) else size


def _show(result: ExportResult) -> None:
    from rich import box
    from rich.table import Table

    parity = result.parity
    table = Table(box=box.SIMPLE_HEAD, title=f"{result.path.name} beside the network, in fp32")
    for head in ("size", "batch", "logits: largest", "mean", "matte: largest", "mean", ""):
        table.add_column(head, justify="right")
    for case in parity.cases:
        numbers = (case.logits, case.logits_mean, case.matte, case.matte_mean)
        table.add_row(
            f"{'picture ' if case.what == 'picture' else ''}{case.width}x{case.height}",
            str(case.batch),
            *("" if number is None else f"{number:.1e}" for number in numbers),
            "passed" if case.passes(parity.limits) else "failed",
        )
    console().print(table)
    say(f"A picture of 400x300 takes {result.latency:.0f} ms on this CPU (median)")
    if result.iou is not None:
        say(f"IoU of its masks with the model's on the pictures given: {result.iou:.4f}")
    files = ", ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in result.files)
    for note in result.notes:
        say(note)
    say(f"Wrote {files} in {result.seconds:.0f} s; the comparison is in {result.report}")
    say(f"Run it without birefnet: python {result.script} PICTURE MASK.png")


def _show_tensorrt(result: ExportResult) -> None:
    from birefnet.export.onnx import INPUT
    from birefnet.export.tensorrt import obstacles, trtexec

    sentences = obstacles(result.path)
    for sentence in sentences:
        warn(sentence)
    if not sentences:
        say("TensorRT knows every operator of it. To build an engine, where TensorRT is installed:")
        metadata = result.metadata
        if metadata.preprocess.views:
            say(
                f"Its weights want pictures {metadata.preprocess}: run the engine on each view and "
                "average the logits at the size of the first."
            )
        typer.echo(trtexec(result.path, dynamic=metadata.dynamic, size=metadata.size, name=INPUT))
