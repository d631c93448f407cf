"""`birefnet remove`: `plan` checks what was typed, and `run` does the work."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    GroupedCommand,
    Model,
    NetworkConfigText,
    examples,
    flag_of,
    with_network_config,
    with_options,
    with_preset,
)
from birefnet.cli.remove.options import RunOptions
from birefnet.options import OPTIONS, Options
from birefnet.presets import PRESETS, Preset

if TYPE_CHECKING:
    from concurrent.futures import Future

    from birefnet.cli.remove.plan import Plan
    from birefnet.inference.predictor import Predictor

EXAMPLES = examples(
    "birefnet remove photo.jpg",
    "birefnet remove photo.jpg -o shop.jpg --background white --crop --shadow ground",
    "birefnet remove 'shots/**/*.jpg' -o cutouts/ --preset shop",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=_epilog())(remove)


def _epilog() -> str:
    lines = (f"  {name:8} {line_of(preset)}" for name, preset in PRESETS.items())
    return f"{EXAMPLES}\nPresets, which options beside them change:\n\n\b\n" + "\n".join(lines)


def line_of(preset: Preset) -> str:
    """A preset as the options of a command."""
    parts = []
    for name, value in preset.items():
        flag = flag_of(name)
        if isinstance(value, bool):
            parts.append(flag if value else f"--no-{flag[2:]}")
        else:
            parts += [
                f"{flag} {shlex.quote(str(item))}"
                for item in (value if OPTIONS[name].is_list else (value,))
            ]
    return " ".join(parts)


@with_options()
def remove(
    context: typer.Context,
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
    network_config: NetworkConfigText = None,
    options: Options,
    run: RunOptions,
) -> None:
    """Remove the background of pictures.

    Exit status 0; 1 if a picture failed (the others are done); 2 if the command makes no sense.
    """
    model = with_network_config(model, network_config)
    if run.preset_name or run.presets:
        options = with_preset(options, context, run.preset_name, run.presets, output)
    loading = _start_loading(model, run)
    from birefnet.cli.remove.jobs import InputError
    from birefnet.cli.remove.plan import make_plan

    try:
        plan = make_plan(inputs, output, options, run, model=model, loading=loading)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(_run(plan))


def _run(plan: Plan) -> int:
    """Do the work on this machine or on a cluster; the exit status."""
    from birefnet.cli.remove.run import remove_all

    page = None
    if plan.run.report is not None:
        from birefnet.cli.remove.html_report import RemoveReport

        page = RemoveReport(plan, plan.run.report)
    if plan.is_table:
        from birefnet.cli.remove.ray_table import RayTableWorker

        return remove_all(plan, RayTableWorker)
    if plan.run.engine == "ray":
        from birefnet.cli.remove.ray_cluster import RayWorker

        return remove_all(plan, RayWorker, page)
    from birefnet.cli.remove.worker import LocalWorker

    return remove_all(plan, LocalWorker, page)


def _start_loading(model: str | None, run: RunOptions) -> Future[Predictor] | None:
    """Read a bundled model in a thread of its own, while the rest of the command is imported.

    `None` for other models, which may need a download, and for the engine of a cluster.
    """
    from concurrent.futures import ThreadPoolExecutor

    from birefnet.weights.locate import default_model, is_bundled

    name = model or default_model()
    if not is_bundled(name) or run.engine == "ray":
        return None

    def load() -> Predictor:
        from birefnet.api import load

        return load(name, device=run.device, dtype=run.dtype, engine=run.engine)

    pool = ThreadPoolExecutor(1, thread_name_prefix="birefnet-load")
    loading = pool.submit(load)
    pool.shutdown(wait=False)
    return loading
