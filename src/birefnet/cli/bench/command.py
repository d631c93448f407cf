"""`birefnet bench`: how quick the engines are on this machine; `run` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birefnet.cli.options import GroupedCommand, Json, examples
from birefnet.terminal import progress_bar

EXAMPLES = examples(
    "birefnet bench",
    "birefnet bench nano swin_v1_t --engines onnx,openvino --precisions fp32,int8",
    "birefnet bench general --engines torch --device cuda --precisions fp16 --batch 4 --json",
)


def register(app: typer.Typer) -> None:
    app.command(cls=GroupedCommand, epilog=EXAMPLES)(bench)


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Models as for `remove --model`, or architectures such as swin_v1_t with random "
            "weights.",
            show_default="nano",
        ),
    ] = None,
    engines: Annotated[
        str, typer.Option(metavar="NAMES", help="torch, openvino and onnx, separated by commas.")
    ] = "torch,openvino,onnx",
    precisions: Annotated[
        str, typer.Option(metavar="NAMES", help="fp32, fp16, bf16 and int8, separated by commas.")
    ] = "fp32,bf16",
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Sides of square inputs, separated by commas.",
            show_default="as trained",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in a batch.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Number of measurements of each.")] = 5,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, or cuda for torch.")] = "cpu",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures to calibrate int8; without them, drawn ones are used.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: Json = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table.")
    ] = False,
) -> None:
    """Measure engines, precisions and sizes on this machine, each in its own process.

    Time and spread of a picture, pictures per second, peak memory of the process, parameters, MACs
    (multiplications with an addition), and the largest difference of the matte to torch in fp32.
    """
    from birefnet.cli.bench import run as work

    if as_json and as_markdown:
        raise typer.BadParameter("--json and --markdown both want standard output; leave one out")
    try:
        cells = work.plan(
            models or ["nano"],
            engines.split(","),
            precisions.split(","),
            None if sizes is None else sizes.split(","),
            batch=batch,
            rounds=rounds,
            device=device,
            calibrate=calibrate,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with progress_bar("measure", show=not as_json) as progress:
        results = work.run(cells, progress)
    if as_json:
        typer.echo(work.to_json(results))
    elif as_markdown:
        typer.echo(work.to_markdown(results))
    else:
        work.print_table(results)
    if all(result.missing for result in results):
        raise typer.Exit(1)
