"""`birefnet benchmark` and `select-best`: the paper's tables for a model, and the best of many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.evaluate import report_files
from birefnet.cli.options import (
    BatchSize,
    Device,
    Dtype,
    GroupedCommand,
    Jobs,
    Model,
    NetworkConfigText,
    ResolutionText,
    check_output,
    examples,
    parse_resolution,
    setting,
    with_network_config,
    with_options,
    write_file,
)
from birefnet.errors import BiRefNetError, UsageError, counted
from birefnet.terminal import console, fail, progress_bar, say, warn

if TYPE_CHECKING:
    from birefnet.evaluation.dataset import SetResult
    from birefnet.evaluation.suites import LocalTestSet, Suite


TestSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME", help="Only this test set; may be repeated."),
]

EXAMPLES = examples(
    "birefnet benchmark --suite dis5k --data DIS5K",
    "birefnet benchmark --suite dis5k --set DIS-VD --data DIS5K --model runs/mine/best",
    "birefnet benchmark --suite matting --data sets --model matting --device cuda",
)
EXAMPLES_SELECT = examples(
    "birefnet select-best benchmark/*/dis5k.json",
    "birefnet select-best a.json b.json --by s_measure",
    "birefnet select-best benchmark/*/dis5k.json --by hce --set DIS-VD",
)


def register(app: typer.Typer) -> None:
    """Add `benchmark` and `select-best` to `app`."""
    for command, ending in ((benchmark, EXAMPLES), (select_best, EXAMPLES_SELECT)):
        app.command(no_args_is_help=True, cls=GroupedCommand, epilog=ending)(command)


@dataclass(frozen=True)
class BenchmarkOptions:
    """The command line of `birefnet benchmark`."""

    suite: str = setting(..., "dis5k, hrsod, cod or matting.", metavar="NAME")
    data: Path = setting(
        ..., "Folder of test sets, each with its pictures and masks.", metavar="ROOT"
    )
    model: Model = None
    network_config: NetworkConfigText = None
    out: Path = setting(
        Path("benchmark"),
        "Folder for predictions and numbers.",
        "--out",
        "-o",
        callback=check_output,
        metavar="DIR",
    )
    sets: TestSets = None
    metrics: str | None = setting(
        None,
        "Metrics or groups, separated by commas.",
        metavar="NAMES",
        show_default="those of the paper's table",
    )
    device: Device = "auto"
    dtype: Dtype = "auto"
    resolution: ResolutionText = None
    batch_size: BatchSize = None
    jobs: Jobs = 0


@with_options()
def benchmark(
    options: BenchmarkOptions,
) -> None:
    """Predict and evaluate the standard test sets, and compare with published numbers.

    What was predicted before is not predicted again: a stopped run goes on where it was.

    Exit status 0; 1 if a picture could not be predicted or scored; 2 for a wrong command.
    """
    from birefnet.api import load
    from birefnet.evaluation.benchmark import claim_folder, mean_row, predict_set
    from birefnet.evaluation.columns import resolve
    from birefnet.evaluation.dataset import evaluate_folder
    from birefnet.evaluation.published import published_rows
    from birefnet.evaluation.suites import get_suite
    from birefnet.evaluation.tables import rows_of, to_json, to_terminal
    from birefnet.weights.locate import default_model, locate

    chosen = get_suite(options.suite)
    columns = resolve(options.metrics.split(",")) if options.metrics else chosen.columns
    size = parse_resolution(options.resolution)
    located = _local_test_sets(chosen, options)
    name = with_network_config(options.model, options.network_config) or default_model()
    locate(name)
    method = Path(name).stem if Path(name).exists() else name.replace("/", "--")
    folder = options.out / method
    claim_folder(folder, {"model": name, "resolution": options.resolution, "dtype": options.dtype})
    predictor_of = lru_cache(lambda: load(name, device=options.device, dtype=options.dtype))
    results: list[SetResult] = []
    for folders in located:
        title = folders.test_set.name
        with progress_bar(f"{title}: predict") as progress:
            predict_set(
                predictor_of,
                folders,
                folder / title,
                resolution=size,
                batch_size=options.batch_size,
                progress=progress,
                on_failure=partial(_fail_in, title),
            )
        try:
            with progress_bar(f"{title}: evaluate") as progress:
                result = evaluate_folder(
                    folder / title,
                    folders.truth,
                    metrics=columns,
                    trimap=folders.trimap,
                    missing="skip",  # what could not be predicted is listed in `failed`
                    jobs=options.jobs,
                    method=method,
                    dataset=title,
                    progress=progress,
                )
        except BiRefNetError as error:
            fail(f"{title}: {error}")
            continue
        published = folders.test_set.pictures
        if len(result.images) != published:
            warn(
                f"{title} has {len(result.images)} of {counted(published, 'picture')} here, so its "
                "numbers do not compare with the published ones"
            )
        report_files(title, result)
        results.append(result)
    if not results:
        raise typer.Exit(1)
    write_file(folder / f"{options.suite}.json", to_json(results).encode())

    rows = []
    mean = mean_row(chosen, results)
    for row in [*rows_of(results), *([mean] if mean else [])]:
        rows += [row, *published_rows(row.dataset)]
    console().print(to_terminal(rows, columns, title=f"{options.suite}, {method}"))
    say(f"Predictions and numbers are in {folder}")
    if len(results) < len(located) or any(result.failed for result in results):
        raise typer.Exit(1)


def _local_test_sets(suite: Suite, options: BenchmarkOptions) -> list[LocalTestSet]:
    """The test sets under --data; says which are missing.

    Raises:
        UsageError: all of them are.
    """
    from birefnet.evaluation.suites import find_test_set

    known = [test_set.name for test_set in suite.sets]
    for name in options.sets or []:
        if name not in known:
            raise typer.BadParameter(f"--set is {name!r}; {options.suite} has {', '.join(known)}")
    located = []
    for test_set in suite.sets:
        if options.sets and test_set.name not in options.sets:
            continue
        if (folders := find_test_set(test_set, options.data)) is not None:
            located.append(folders)
        else:
            warn(
                f"{test_set.name} is not under {options.data}; its "
                f"{counted(test_set.pictures, 'picture')} are published at {test_set.published_at}"
            )
    if not located:
        raise UsageError(f"{options.data} holds none of the test sets of {options.suite}")
    return located


def _fail_in(title: str, reason: str) -> None:
    fail(f"{title}: {reason}")


def select_best(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json", help="JSON files of `evaluate --output` or `benchmark`."
        ),
    ],
    by: Annotated[
        str,
        typer.Option(
            metavar="METRIC", help="Metric, such as s_measure, weighted_f_measure or hce."
        ),
    ] = "weighted_f_measure",
    sets: TestSets = None,
) -> None:
    """Choose the best checkpoint: the best mean of one metric over all data sets.

    The ranking goes to standard error, the name of the best to standard output.

    Exit status 0; 1 if a file cannot be read, or a result lacks pictures that could not be scored.
    """
    from rich import box
    from rich.table import Table

    from birefnet.evaluation.compare import FEWEST
    from birefnet.evaluation.selection import rank
    from birefnet.evaluation.tables import format_value, read_json

    rows, unreadable = [], []
    for path in files:
        try:
            rows += read_json(path)
        except UsageError:
            raise
        except BiRefNetError as error:
            unreadable.append(error)
            fail(str(error))
    if not rows and unreadable:
        raise typer.Exit(1)
    ranked = rank(rows, by, sets or [])
    used = [row for row in rows if row.dataset in ranked[0].by_set]
    for row in used:
        if row.failed:
            warn(
                f"{row.method} on {row.dataset}: {counted(row.failed, 'picture')} could not be "
                "scored."
            )
    fewest = min((row.count for row in used if row.count is not None), default=FEWEST)
    if fewest < FEWEST and len(ranked) > 1:
        warn(
            f"A mean of {counted(fewest, 'picture')} is too few to tell which is better; take "
            f"{FEWEST}."
        )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("checkpoint", overflow="fold")
    for head in (f"mean {by.replace('_', ' ')}", *ranked[0].by_set):
        table.add_column(head, justify="right")
    for one in ranked:
        numbers = [one.mean, *one.by_set.values()]
        table.add_row(one.method, *(format_value(by, number) for number in numbers))
    console(stderr=True).print(table)
    typer.echo(ranked[0].method)
    if unreadable or any(row.failed for row in used):
        raise typer.Exit(1)
