"""Options of commands: those that several share, the fields of `Options`, and help in groups."""

from __future__ import annotations

import inspect
import math
import os
import re
import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from birefnet.errors import BiRefNetError, OptionError, UsageError, require
from birefnet.files import check_path, write
from birefnet.imaging import values
from birefnet.imaging.values import Resolution
from birefnet.options import OPTIONS, Option, Options, declared
from birefnet.terminal import progress_bar, say

T = TypeVar("T")

GROUPS = {
    "Result": (
        *("kind", "background", "outline", "outline_colour", "only_mask", "bgcolor"),
        *("preset_name", "presets"),
    ),
    "Which object": ("boxes", "points", "other_points", "guide"),
    "Recipe": ("recipe", "variant", "assignments", "config", "list_recipes"),
    "Data": ("data", "validate", "replay", "sets", "against", "ignore", "smallest"),
    "Weights": ("init", "freeze_encoder", "network_config"),
    "Metrics": ("metrics", "threshold_set", "trimap", "missing", "channel"),
    "Graph": (
        *("precision", "dynamic", "size", "standard_ops", "with_preprocessing", "opset"),
        *("calibrate", "tensorrt"),
    ),
    "Figure": ("point", "field", "panels"),
    "Measurement": ("engines", "precisions", "sizes", "rounds"),
    "Network": (
        *("resolution", "batch_size", "batch", "passes", "high_resolution"),
        *("device", "dtype", "engine"),
    ),
    "Edges": (
        *("threshold", "mask_blur", "mask_offset", "refine", "matting", "band"),
        *("alpha_matting", "alpha_matting_foreground_threshold"),
        *("alpha_matting_background_threshold", "alpha_matting_erode_size"),
        *("post_process_mask", "decontaminate", "vitmatte"),
    ),
    "Objects and shape": ("objects", "min_object", "crop", "crop_margin", "aspect"),
    "Shadow": ("shadow", "shadow_strength", "shadow_blur", "shadow_angle", "shadow_length"),
    "File": ("format", "quality", "keep_profile", "metadata", "crf", "preset"),
    "Video": ("start", "end", "stride", "stabilise", "audio", "rate"),
    "Tables": ("column", "name_column"),
    "Address": ("host", "port", "root_path", "page", "open_page", "in_browser", "log_level"),
    "Access": ("api_keys", "cors", "allowed_host", "fetch", "fetch_host"),
    "Load": ("memory", "wait_ms", "queue", "workers", "connections", "timeout", "grace"),
    "Limits": (
        *("max_size", "max_upload", "max_megapixels", "max_megapixels_held"),
        *("max_resolution", "max_frames"),
    ),
    "Reports": (
        *("form", "per_image", "worst", "curves", "sheet", "sheet_limit", "sort", "image"),
        *("report", "profile", "as_json", "as_markdown", "every"),
    ),
    "Run": (
        *("overwrite", "recursive", "manifest", "retries", "watch", "jobs", "resume", "dry_run"),
        *("check_memory", "force", "delete_input", "extras"),
    ),
}
"""Headings of the help, and the parameters under each; others come first."""

MAY_BE_EMPTY = ("manifest",)
"""Parameters for which an empty value means "none"."""

GO_ON = ("benchmark", "reproduce", "download")
"""Commands that go on where they were interrupted, if they are given again."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; `status` is what the process ends with, as shells have it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.status = 128 + number


class InterruptedCommand(BiRefNetError):
    """The end of a command by `Interrupted`, in one sentence."""

    def __init__(self, interrupt: KeyboardInterrupt, name: str | None) -> None:
        goes_on = name in GO_ON
        super().__init__(
            f"interrupted{'; the same command goes on from here' if goes_on else ' before its end'}"
        )
        self.status = status_of(interrupt)


def flag_of(name: str) -> str:
    """The name of a field in the command: `crop_margin` → "--crop-margin"."""
    return f"--{(name in OPTIONS and OPTIONS[name].flag) or name.replace('_', '-')}"


def message_of(error: BiRefNetError) -> str:
    """An error's sentence, with the names of the command's options."""
    return error.named(flag_of) if isinstance(error, OptionError) else str(error)


def option(name: str, about: Option | None = None) -> Any:
    """How typer makes an option of a field; of `Options` if nothing else is given."""
    about = about or OPTIONS[name]
    flags = [flag_of(name), *[f"-{about.short}"] * bool(about.short)]
    if about.default is True:
        flags = [f"{flag_of(name)}/--no-{name}"]
    least, most = (about.range.least, about.range.most) if about.range else (None, None)
    return typer.Option(
        *flags,
        help=about.help,
        metavar=_form_of(name, about),
        min=least,
        max=None if most == math.inf else most,
        show_default=about.usual or True,
    )


def _form_of(name: str, about: Option) -> str | None:
    """How a value is written: N, PX|%, TYPE; nothing for a yes or no."""
    if about.type is bool:
        return None
    if about.range is not None:
        return "N"
    if len(about.choices) == 2:
        return "|".join(about.choices)
    return about.form or flag_of(name).strip("-").upper()


def with_preset(
    options: Options,
    context: typer.Context,
    name: str | None,
    file: Path | None,
    output: str | None,
) -> Options:
    """The options of a preset, and over them those that were typed.

    Args:
        file: of own presets.
        output: whose suffix comes before the preset's format.

    Raises:
        UsageError: no such preset, or a file that makes no sense.
    """
    from birefnet.imaging.formats import SUFFIXES
    from birefnet.presets import find_preset, options_of, read_presets

    if name is None:
        raise UsageError(f"--presets {file} does nothing without --preset; add it")
    preset = dict(find_preset(name, read_presets(file)))
    if output and Path(output).suffix.lower() in SUFFIXES:
        preset.pop("format", None)
    sources = {name: context.get_parameter_source(name) for name in OPTIONS}
    typed = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    return options_of(preset, {name: getattr(options, name) for name in typed})


def type_of(about: Option) -> Any:
    """The type for typer: a number, or text that is read later."""
    if about.is_list:
        return list[str] | None
    if {str, Any, tuple[int, int]} & {about.type, *get_args(about.type)}:
        return str if about.default is not None else str | None
    return about.type


def with_options(**names: Collection[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the fields of its dataclasses as parameters, in place of these.

    A parameter whose type is a dataclass becomes an option for each field: as `option` makes it
    where the field is declared so, and otherwise as `setting` or its annotation says.

    Args:
        names: of a parameter: the fields that it has; otherwise all.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        groups: dict[str, tuple[type, list[str]]] = {}
        for parameter in signature.parameters.values():
            kind = parameter.annotation
            if not (isinstance(kind, type) and is_dataclass(kind)):
                parameters.append(parameter)
                continue
            expanded = _parameters_of(kind, names.get(parameter.name))
            groups[parameter.name] = kind, [each.name for each in expanded]
            parameters += expanded

        @wraps(command)
        def call(**values: Any) -> None:
            for group, (kind, members) in groups.items():
                chosen = {name: values.pop(name) for name in members}
                for name, value in chosen.items():
                    if kind is Options and OPTIONS[name].is_list:
                        chosen[name] = tuple(value or ())
                values[group] = kind(**chosen)
            command(**values)

        call.__annotations__ = {each.name: each.annotation for each in parameters}
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _parameters_of(kind: type, names: Collection[str] | None) -> list[inspect.Parameter]:
    """A parameter for each field of a dataclass, or for those of these names."""
    options, hints = declared(kind), get_type_hints(kind, include_extras=True)
    own = {item.name: item for item in fields(kind)}
    made = []
    for name in own if names is None else names:
        annotation, default = hints[name], own[name].default
        if (about := options.get(name)) is not None:
            annotation = Annotated[type_of(about), option(name, about)]
            default = None if about.is_list else default
        elif (info := own[name].metadata.get("typer")) is not None:
            annotation = Annotated[annotation, info]
        if default is MISSING:
            default = inspect.Parameter.empty
        made.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
        )
    return made


def setting(default: Any, help: str, *flags: str, **more: Any) -> Any:
    """A field of a command's dataclass: `...` for no default, else as for `typer.Option`."""
    metadata = {"typer": typer.Option(*flags, help=help, **more)}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def examples(*lines: str) -> str:
    """The end of a command's help: these lines, as they are."""
    return "Examples:\n\n\b\n" + "".join(f"  {line}\n" for line in lines)


def grouped(parameters: Iterable[Any], context: Any) -> dict[str, list[tuple[str, str]]]:
    """Heading of `GROUPS` → names and help of the parameters under it; only those that have any."""
    titles = {name: title for title, names in GROUPS.items() for name in names}
    groups: dict[str, list[tuple[str, str]]] = {
        title: [] for title in ("Arguments", "Options", *GROUPS)
    }
    for parameter in parameters:
        is_argument = parameter.param_type_name == "argument"
        title = "Arguments" if is_argument else titles.get(str(parameter.name), "Options")
        if (record := parameter.get_help_record(context)) is not None:
            groups[title].append(record)
    return {title: records for title, records in groups.items() if records}


_HOME = re.compile(r"^((?:--)?[\w-]+=|-\w|)~(?=[/\\]|$)")


class GroupedCommand(TyperCommand):
    """A command whose help has a heading for each group of options, as `GROUPS` has them.

    It refuses empty values, such as `-o "$OUT"` of a variable that is not set: a path would become
    the current folder, and a model the default. It replaces a `~` that the shell has left, as in
    `--output=~/out`. Interrupted, it ends with `InterruptedCommand`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called by typer with what was typed."""
        args = [_HOME.sub(lambda match: match[1] + os.path.expanduser("~"), text) for text in args]
        return super().parse_args(ctx, args)

    def make_parser(self, ctx: Any) -> Any:
        """Called by typer; the parser refuses empty values before they are converted."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> tuple[dict[str, Any], list[str], list[Any]]:
            values, rest, order = parse(args)
            for parameter in order if not ctx.resilient_parsing else ():  # as for completion
                value = values.get(parameter.name)
                is_empty = "" in value if isinstance(value, (list, tuple)) else value == ""
                if is_empty and parameter.name not in MAY_BE_EMPTY:
                    raise typer.BadParameter("it is empty; give a value", ctx=ctx, param=parameter)
            return values, rest, order

        parser.parse_args = parse_args
        return parser

    def invoke(self, ctx: Any) -> Any:
        """Called by typer, which would end an interrupted command without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise InterruptedCommand(interrupt, ctx.info_name) from interrupt

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Called by typer for the help."""
        for title, records in grouped(self.get_params(ctx), ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)


# Options that several commands have, and what their values mean.

LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]
"""As uvicorn has them."""


MODEL_HELP = "Bundled or released weights, a file or a folder; see `birefnet models list`."
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help=MODEL_HELP,
        envvar="BIREFNET_MODEL",
        show_default="nano",
    ),
]
NetworkConfigText = Annotated[
    str | None,
    typer.Option(
        "--network-config",
        metavar="NAME=VALUE,…|FILE",
        help="Architecture of the network, if neither its file nor its tensors show it: "
        "image_pyramid=add, a .json file, or a preset.",
        show_default="by the file",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="auto, fp32, fp16 or bf16.")]
ResolutionText = Annotated[str | None, option("resolution")]
BatchSize = Annotated[int | None, option("batch_size")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="Any field of the recipe, such as schedule.epochs=20 or data.augment.rotate=0.5; may "
        "be repeated.",
    ),
]
MaxMegapixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        min=0.001,
        max=1e6,
        metavar="MP",
        help="Larger pictures are refused.",
        envvar="BIREFNET_MAX_MEGAPIXELS",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", help="Processes; 0 for one per core.")
]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]


def check_output(value: T) -> T:
    """Callback of options that name a file or folder to write: find before the work begins what
    Windows would refuse at its end."""
    for path in value if isinstance(value, list) else [value]:
        if path is not None and "://" not in str(path):
            try:
                check_path(str(path))
            except OSError as error:
                raise typer.BadParameter(f"{path}: {error.strerror}") from None
    return value


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; its folder is made if it is not there.

    Raises:
        BiRefNetError: it cannot be written.
    """
    try:
        write(path, data)
    except OSError as error:
        raise BiRefNetError(f"cannot write {path}: {error.strerror or error}") from error


def parse_network_config(text: str | None) -> dict[str, Any] | None:
    """Of `--network-config`: the fields of `NetworkConfig` that it gives."""
    if text is None:
        return None
    from birefnet.network.config import NetworkConfig, parse_config

    try:
        values = parse_config(text)
        NetworkConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"--network-config: {error}") from None
    return values


def with_network_config(model: str | None, text: str | None) -> str | None:
    """`model`, or where --network-config is given, a copy of it that says how it is built."""
    values = parse_network_config(text)
    if values is None:
        return model
    require("--network-config", "torch")
    from birefnet.weights.convert import with_config
    from birefnet.weights.locate import default_model

    with progress_bar("copy the model"):
        folder = with_config(model or default_model(), values)
    say(f"{folder} is the model with this configuration, for --model")
    return str(folder)


def parse_resolution(text: str | None, option: str = "--resolution") -> Resolution | None:
    """As `birefnet.imaging.values.parse_resolution`, with a usage error that names the option."""
    try:
        return values.parse_resolution(text)
    except BiRefNetError as error:
        raise typer.BadParameter(f"{option}: {error}") from None


def status_of(error: BiRefNetError | KeyboardInterrupt) -> int:
    """The exit status: 2 if the command makes no sense, 1 for work that failed, 130 or 143 if it
    was interrupted."""
    if isinstance(error, KeyboardInterrupt):
        return error.status if isinstance(error, Interrupted) else 128 + signal.SIGINT
    return 2 if isinstance(error, UsageError) else 1
