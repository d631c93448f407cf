"""`birefnet evaluate`: numbers for folders of masks, in any form."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    GroupedCommand,
    Jobs,
    check_output,
    examples,
    setting,
    with_options,
    write_file,
)
from birefnet.errors import BiRefNetError, UsageError, counted
from birefnet.terminal import console, fail, progress_bar, say, warn

if TYPE_CHECKING:
    from rich.console import Console

    from birefnet.evaluation.dataset import SetResult

_FORMS = {"table", "csv", "json", "markdown", "latex"}
_LISTED = 10  # pairs that could not be scored, in the terminal

Metrics = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Names of metrics or groups, separated by commas: segmentation, matting, all, dis, "
        "hrsod, cod, portrait.",
    ),
]


EXAMPLES = examples(
    "birefnet evaluate -p masks -t DIS-VD/gt",
    "birefnet evaluate -p mine=a -p theirs=b -t DIS-VD/gt --image DIS-VD/im --sheet sheet.html",
    "birefnet evaluate -p mattes -t gt --metrics matting --trimap trimaps -o scores.csv",
)


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(evaluate)


@dataclass(frozen=True)
class EvaluateOptions:
    """The command line of `birefnet evaluate`."""

    prediction: list[str] = setting(
        ...,
        "Folder of predicted masks; give it several times to compare methods.",
        "--prediction",
        "-p",
        metavar="[NAME=]DIR",
    )
    truth: Path = setting(..., "Folder of ground truth masks.", "--truth", "-t", metavar="DIR")
    metrics: Metrics = "segmentation"
    threshold_set: str = setting(
        "all",
        "Thresholds for the mean and maximum of curves: all (0..255), tenths, or numbers "
        "such as 0.3,0.5,0.7.",
        metavar="SET",
    )
    trimap: Path | None = setting(
        None, "Folder of trimaps (128 = unknown) for the matting metrics.", metavar="DIR"
    )
    image: Path | None = setting(
        None, "Folder of the pictures, for the HTML report.", metavar="DIR"
    )
    missing: str = setting(
        "error",
        "For a missing prediction: error; skip lists it; black counts it (and unreadable "
        "ones) as all black.",
        metavar="HOW",
    )
    channel: str = setting(
        "auto", "The mask of files with alpha: auto, alpha or luminance.", metavar="WHICH"
    )
    jobs: Jobs = 0
    output: list[Path] | None = setting(
        None,
        "Write the table: .csv, .json, .md or .tex; may be given several times.",
        "--output",
        "-o",
        callback=check_output,
        metavar="FILE",
    )
    form: str = setting(
        "table", "Printed format: table, csv, json, markdown or latex.", "--format", metavar="FORM"
    )
    per_image: Path | None = setting(
        None, "Write each picture's numbers as CSV.", callback=check_output, metavar="FILE"
    )
    worst: int = setting(0, "List the worst pictures by --sort.", metavar="N")
    curves: Path | None = setting(
        None,
        "Draw precision-recall and F-measure curves: .png, .svg or .pdf.",
        callback=check_output,
        metavar="FILE",
    )
    sheet: Path | None = setting(
        None, "Write an HTML report.", callback=check_output, metavar="FILE"
    )
    sheet_limit: int = setting(100, "Pictures in the report per method; 0 for all.", metavar="N")
    sort: str | None = setting(
        None, "Order of --worst and --sheet.", metavar="METRIC", show_default="the first"
    )
    overwrite: bool = setting(False, "Replace files.", "--overwrite")


@with_options()
def evaluate(
    options: EvaluateOptions,
) -> None:
    """Compute the metrics of the paper for predicted masks.

    Pairs are matched by name across suffixes and subfolders; every truth counts.
    Predictions are resized bilinearly to the truth.
    With two methods, the differences come with a 95 % interval, from ten pictures on.
    A pair that cannot be read is listed, and the others are scored.

    Exit status 0; 1 if a pair could not be scored; 2 for a wrong command.
    """
    from birefnet.evaluation.columns import Thresholds, resolve
    from birefnet.evaluation.dataset import evaluate_folder

    names = resolve([name.strip() for name in options.metrics.split(",")])
    order = resolve(options.sort)[0] if options.sort else names[0]
    if order not in names:
        raise typer.BadParameter(f"--sort is {order!r}, which --metrics leaves out")
    thresholds = Thresholds.parse(options.threshold_set)
    _check_outputs(options)
    results: list[SetResult] = []
    for method, folder in _named_folders(options.prediction):
        try:
            with progress_bar(method) as progress:
                result = evaluate_folder(
                    folder,
                    options.truth,
                    metrics=names,
                    trimap=options.trimap,
                    image=options.image,
                    thresholds=thresholds,
                    missing=options.missing,  # type: ignore[arg-type]  # checked there
                    channel=options.channel,  # type: ignore[arg-type]  # checked there
                    jobs=options.jobs,
                    keep_curves=len(options.prediction) == 2,
                    method=method,
                    dataset=_dataset_name(options.truth),
                    progress=progress,
                )
        except BiRefNetError as error:
            if len(options.prediction) == 1 or isinstance(error, UsageError):
                raise
            fail(f"{method}: {error}")
            continue
        report_files(method, result)
        results.append(result)
    if not results:
        raise typer.Exit(1)
    try:  # the files first: who reads standard output may have left
        _write_files(results, options, order)
    finally:
        _show(results, options.form, order, options.worst)
    if len(results) < len(options.prediction) or any(result.failed for result in results):
        raise typer.Exit(1)


def _check_outputs(options: EvaluateOptions) -> None:
    from birefnet.evaluation.report import check_curve_path

    if options.form not in _FORMS:
        raise typer.BadParameter(
            f"--format is {options.form!r}; choose one of {', '.join(sorted(_FORMS))}"
        )
    for path in options.output or []:
        if path.suffix not in (".csv", ".json", ".md", ".tex"):
            raise typer.BadParameter(f"--output is {path}; end it in .csv, .json, .md or .tex")
    for target in [*(options.output or []), options.per_image, options.curves, options.sheet]:
        if target is not None and target.exists() and not options.overwrite:
            raise typer.BadParameter(f"{target} exists; give --overwrite to replace it")
    if options.curves is not None:
        check_curve_path(options.curves)


def report_files(title: str, result: SetResult) -> None:
    """Say what is odd about the files of a result, and which could not be scored."""
    for warning in result.warnings:
        warn(f"{title}: {warning}")
    reasons = list(result.failed.values())
    for reason in reasons[:_LISTED]:
        fail(f"{title}: {reason}")
    if len(reasons) > _LISTED:
        fail(f"{title}: and {len(reasons) - _LISTED} more")
    if reasons:
        count = len(result.images)
        warn(f"{title}: the numbers are of {count} of {counted(count + len(reasons), 'picture')}.")


def _named_folders(predictions: list[str]) -> list[tuple[str, Path]]:
    """Split `NAME=DIR`; without a name, the folder's own, or its parent's too where two agree."""
    named = []
    for text in predictions:
        name, separator, folder = text.partition("=")
        is_named = bool(separator) and not Path(text).exists()
        path = Path(folder if is_named else text)
        named.append((name if is_named else path.resolve().name, path))
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        named = [(f"{path.resolve().parent.name}/{path.resolve().name}", path) for _, path in named]
    if len({name for name, _ in named}) < len(named):
        raise typer.BadParameter("two predictions have one name; give NAME=DIR for each")
    return named


def _dataset_name(truth: Path) -> str:
    """A folder `gt` or `masks` is named by the data set that it lies in."""
    path = truth.resolve()
    return path.parent.name if path.name.lower() in _GENERIC else path.name


_WIDER_THAN_ANY = 10_000
_GENERIC = {"gt", "gts", "mask", "masks", "truth", "alpha", "matte"}


def _show(results: list[SetResult], form: str, order: str, worst: int) -> None:
    from rich.measure import Measurement

    from birefnet.evaluation.report import worst_first
    from birefnet.evaluation.tables import (
        format_value,
        render,
        rows_of,
        to_tall_terminal,
        to_terminal,
    )

    if form != "table":
        sys.stdout.write(render(results, form))
        return
    out = console()
    count = len(results[0].images)
    rows, columns, title = rows_of(results), results[0].columns, counted(count, "picture")
    if len({len(result.images) for result in results}) > 1:
        title = ", ".join(
            f"{result.method}: {counted(len(result.images), 'picture')}" for result in results
        )
    wide = to_terminal(rows, columns, title=title)
    unbounded = out.options.update(max_width=_WIDER_THAN_ANY)
    fits = Measurement.get(out, unbounded, wide).minimum <= out.width
    out.print(wide if fits else to_tall_terminal(rows, columns, title=title))
    if len(results) == 2:
        _show_differences(results, out)
    for result in results:
        if worst:
            out.print(f"Worst {min(worst, count)} of {result.method} by {order}:")
        for image in worst_first(result.images, order)[:worst]:
            out.print(f"  {format_value(order, image.values[order]):>9}  {image.files.name}")


def _show_differences(results: list[SetResult], out: Console) -> None:
    from rich import box
    from rich.table import Table

    from birefnet.evaluation.columns import COLUMNS
    from birefnet.evaluation.compare import FEWEST, bootstrap

    first, second = results
    differences = [bootstrap(first, second, name) for name in first.columns]
    count = differences[0].count
    if count < FEWEST:
        few = f"{counted(count, 'picture')} {'is' if count == 1 else 'are'} too few"
        out.print(f"{few} to tell which is better; give at least {FEWEST}.")
        return
    scope = (
        f"{counted(count, 'picture')}, "
        if count < max(len(first.images), len(second.images))
        else ""
    )
    table = Table(
        title=f"{first.method} minus {second.method}, {scope}95 % interval (paired bootstrap)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for head in ("metric", "difference", "from", "to", "verdict"):
        table.add_column(head, justify="left" if head in ("metric", "verdict") else "right")
    for each in differences:
        name = each.column
        better = (each.value > 0) == COLUMNS[name].higher_is_better
        verdict = f"{(first if better else second).method} is better" if each.is_clear else "open"
        digits = COLUMNS[name].digits + 1
        numbers = (f"{value:+.{digits}f}" for value in (each.value, each.low, each.high))
        table.add_row(name.replace("_", " "), *numbers, verdict)
    out.print(table)


def _write_files(results: list[SetResult], options: EvaluateOptions, order: str) -> None:
    from birefnet.evaluation.report import plot_curves
    from birefnet.evaluation.tables import images_to_csv, render

    for path in options.output or []:
        write_file(path, render(results, path.suffix[1:]).encode())
    if options.per_image is not None:
        write_file(options.per_image, images_to_csv(results).encode())
    if options.curves is not None:
        options.curves.parent.mkdir(parents=True, exist_ok=True)
        plot_curves(results, options.curves)
    if options.sheet is not None:
        _write_sheet(results, options.sheet, order, options.sheet_limit, options.channel)


def _write_sheet(
    results: list[SetResult], path: Path, order: str, limit: int, channel: str
) -> None:
    from birefnet.evaluation.report import html_report

    with progress_bar("report") as progress:
        page = html_report(
            results,
            sort_by=order,
            limit=limit,
            channel=channel,  # type: ignore[arg-type]  # checked by evaluate_folder
            progress=progress,
        )
    write_file(path, page)
    say(f"Wrote {path}")
