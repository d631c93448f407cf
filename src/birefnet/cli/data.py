"""`birefnet data`: look at training data before a run does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    Assignments,
    GroupedCommand,
    Jobs,
    Json,
    check_output,
    examples,
    write_file,
)
from birefnet.errors import counted, require
from birefnet.terminal import console, progress_bar, say, warn

if TYPE_CHECKING:
    from birefnet.training.data.findings import CheckReport, SetReport

_LISTED = 5  # files named per finding

CHECK_EXAMPLES = (
    "birefnet data check DIS-TR",
    "birefnet data check IMAGES::MASKS --against DIS-VD --sheet findings.html",
)
PREVIEW_EXAMPLES = (
    "birefnet data preview DIS-TR -o samples.png",
    "birefnet data preview CUTOUTS --background SCENES --recipe matting -o samples.png",
    "birefnet data preview DIS-TR --set data.augment.rotate=0.5 --count 16 -o samples.png",
)

data_app = typer.Typer(
    no_args_is_help=True,
    help="Check training data, and preview samples.",
    epilog=examples(*CHECK_EXAMPLES, PREVIEW_EXAMPLES[0]),
)

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Folders with im/ and gt/, IMAGES::MASKS, folders of cut-outs, hf:NAME or wds:SHARDS.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add `data` to `app`."""
    app.add_typer(data_app, name="data")


@data_app.command(
    no_args_is_help=True,
    cls=GroupedCommand,
    epilog=examples(*CHECK_EXAMPLES, "birefnet data check mattes --task matting --ignore empty"),
)
def check(
    paths: Paths,
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="segmentation, or matting, which needs soft ground truth."
        ),
    ] = "segmentation",
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="A test set, which must not share pictures with these."),
    ] = None,
    smallest: Annotated[
        int, typer.Option(metavar="N", help="Shorter side below which a picture is small.")
    ] = 256,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FINDING", help="A finding to accept, such as empty; may be repeated."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            callback=check_output,
            metavar="FILE",
            help="Write examples of each finding: .html or .png.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="List every file, not only the first five.")
    ] = (False),
    jobs: Jobs = 0,
    as_json: Json = False,
) -> None:
    """Find data errors: unmatched, unreadable, inverted, leaking pictures.

    Exit status 0 if nothing was found, 1 for findings, 2 for a wrong command.
    """
    from birefnet.training.data import findings

    if task not in ("segmentation", "matting"):
        raise typer.BadParameter(f"--task is {task!r}; choose segmentation or matting")
    if sheet is not None and sheet.suffix.lower() not in (".html", ".png"):
        raise typer.BadParameter(f"--sheet is {sheet}; end it in .html or .png")
    unknown = sorted(set(ignore or []) - set(findings.KINDS))
    if unknown:
        raise typer.BadParameter(
            f"--ignore is {unknown[0]!r}; findings are {', '.join(findings.KINDS)}"
        )
    from birefnet.training.data.folders import DataError

    try:
        with progress_bar("check", show=not as_json) as progress:
            report = findings.check(
                paths,
                task=task,  # type: ignore[arg-type]  # checked above
                against=against or (),
                smallest=smallest,
                ignore=ignore or (),
                jobs=jobs,
                progress=progress,
            )
    except DataError as error:  # a path that is not a set is a wrong command, not a finding
        raise typer.BadParameter(str(error)) from None
    if sheet is not None:
        from birefnet.training.data.findings_report import write_html, write_png

        write = write_png if sheet.suffix.lower() == ".png" else write_html
        with progress_bar("sheet", show=not as_json):
            write_file(sheet, write(report))
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(report), indent=2) + "\n")
    else:
        _show(report, every=every)
    if sheet is not None:
        say(f"Wrote {sheet}")
    if not report.is_clean:
        raise typer.Exit(1)


@data_app.command(no_args_is_help=True, cls=GroupedCommand, epilog=examples(*PREVIEW_EXAMPLES))
def preview(
    paths: Paths,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            callback=check_output,
            metavar="FILE.png",
            help="The picture to write.",
        ),
    ],
    background: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Pictures without a subject, to put cut-outs on."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", "-r", metavar="NAME[:VARIANT]", help="Recipe with the augmentation."
        ),
    ] = None,
    assignments: Assignments = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Samples to show.")] = 32,
    side: Annotated[
        int, typer.Option("--size", metavar="N", min=32, help="Width and height, a multiple of 32.")
    ] = 256,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed, as loop.seed.")] = 1,
) -> None:
    """Draw training samples after augmentation and compositing, with their ground truth."""
    require("`birefnet data preview`", "torch")
    from birefnet.imaging.encoding import encode
    from birefnet.training.data.dataset import build_dataset
    from birefnet.training.data.preview import preview as draw
    from birefnet.training.recipe import Recipe
    from birefnet.training.recipes import get_recipe

    if output.suffix.lower() != ".png":
        raise typer.BadParameter(f"--output is {output}; end it in .png")
    name, _, variant = (recipe or "").partition(":")
    chosen = get_recipe(name, variant or "recommended") if name else Recipe()
    given = {"sources": paths, "backgrounds": background or [], "width": side, "height": side}
    settings = chosen.override({"data": given}).override(assignments or ()).data
    with progress_bar("compose samples"):
        data = build_dataset(settings, seed=seed)
        for note in data.notes:
            warn(note)
        write_file(output, encode(draw(data, count), format="png"))
    say(f"Wrote {output}: {count} of {counted(data.epoch_length, 'sample')} of an epoch")


def _show(report: CheckReport, *, every: bool) -> None:
    from rich.text import Text

    out = console()

    def line(text: str, style: str = "") -> None:
        out.print(Text(text, style), soft_wrap=True)

    for one in report.sets:
        line(_summary(one))
    for finding in report.findings:
        line(f"\n{finding.title}  [{finding.kind.key}]", "yellow")
        line(f"  {finding.advice}")
        shown = finding.items if every else finding.items[:_LISTED]
        for item in shown:
            line(f"  {item.path}{f' ({item.detail})' if item.detail else ''}", "dim")
        if len(finding.items) > len(shown):
            line(f"  and {len(finding.items) - len(shown):,} more (--all)", "dim")
    if report.is_clean:
        line("Nothing was found.", "green")


def _summary(one: SetReport) -> str:
    low, middle, high = one.sizes
    number = counted(one.count, one.kind.removesuffix("s"))
    text = f"{one.name}: {number}, shorter side {low} to {high} px"
    text += f" (median {middle})"
    if one.kind != "pictures":
        text += f", subject {one.share:.0%} of a picture, {one.soft:.0%} with soft edges"
    return text


def _as_dict(report: CheckReport) -> dict[str, object]:
    return {
        "task": report.task,
        "sets": [
            {
                "path": one.name,
                "kind": one.kind,
                "count": one.count,
                "shorter_side": dict(
                    zip(("smallest", "median", "largest"), one.sizes, strict=True)
                ),
                "subject_share": one.share,
                "soft_share": one.soft,
            }
            for one in report.sets
        ],
        "findings": [
            {
                "kind": finding.kind.key,
                "count": len(finding.items),
                "sentence": finding.title,
                "cure": finding.kind.cure,
                "files": [
                    {
                        "set": item.set_name,
                        "path": str(item.path),
                        **({"detail": item.detail} if item.detail else {}),
                        **({"other": str(item.other)} if item.other else {}),
                    }
                    for item in finding.items
                ],
            }
            for finding in report.findings
        ],
    }
