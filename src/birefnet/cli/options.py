"""The command's options that are fields of `Options`, and help in groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from birefnet.errors import BiRefNetError, OptionError
from birefnet.imaging.values import (
    parse_aspect,
    parse_box,
    parse_measure,
    parse_point,
    parse_resolution,
)
from birefnet.options import DEFAULTS, LISTS, OPTIONS, TYPES, Options

GROUPS = {
    "Result": ("kind", "background"),
    "Which object": ("boxes", "points", "other_points", "guide"),
    "Network": (
        "resolution",
        "batch_size",
        "passes",
        "high_resolution",
        "device",
        "dtype",
        "engine",
    ),
    "Edges": ("threshold", "mask_blur", "mask_offset", "refine", "matting", "band"),
    "Objects and shape": ("objects", "min_object", "crop", "crop_margin", "aspect"),
    "Shadow": ("shadow", "shadow_strength", "shadow_blur", "shadow_angle", "shadow_length"),
    "File": ("format", "quality", "keep_profile", "metadata", "crf", "preset"),
    "Video": ("start", "end", "stride", "stabilise", "audio", "rate"),
    "Tables": ("column", "name_column"),
    "Run": (
        *("max_megapixels", "overwrite", "recursive", "manifest", "retries", "watch", "jobs"),
        *("resume", "report", "profile", "as_json"),
    ),
}
"""Headings of the help, and the parameters under each; others come first."""

FORMS: dict[Any, str] = {
    parse_box: "X0,Y0,X1,Y1",
    parse_point: "X,Y",
    parse_measure: "PX|%",
    parse_aspect: "W:H",
    parse_resolution: "N|WxH|native",
}
"""How what a parser reads is written."""


def flag_of(name: str) -> str:
    """What a field is called in the command: `crop_margin` → "--crop-margin"."""
    return f"--{(name in OPTIONS and OPTIONS[name].flag) or name.replace('_', '-')}"


def message_of(error: BiRefNetError) -> str:
    """An error's sentence, with the names of the command's options."""
    return error.named(flag_of) if isinstance(error, OptionError) else str(error)


def option(name: str) -> Any:
    """How typer makes an option of a field of `Options`."""
    about, default = OPTIONS[name], DEFAULTS[name]
    flags = [flag_of(name), *[f"-{about.short}"] * bool(about.short)]
    if default is True:
        flags = [f"{flag_of(name)}/--no-{name}"]
    limits = about.range
    return typer.Option(
        *flags,
        help=about.help,
        metavar=_form_of(name),
        min=None if limits is None else limits.least,
        max=None if limits is None else limits.most,
        show_default=about.usual or True,
    )


def _form_of(name: str) -> str | None:
    """How a value is written: N, PX|%, TYPE; nothing for a yes or no."""
    about = OPTIONS[name]
    if TYPES[name] is bool:
        return None
    if about.range is not None:
        return "N"
    if about.names_file:
        return "COLOUR|FILE" if name == "background" else "FILE"
    if len(about.choices) == 2:
        return "|".join(about.choices)
    return FORMS.get(about.parse, flag_of(name).strip("-").upper())


def type_of(name: str) -> Any:
    """What typer makes of the text: a number, or text that `Options` reads."""
    kind = TYPES[name]
    if name in LISTS:
        return list[str] | None
    if {str, Any, tuple[int, int]} & {kind, *get_args(kind)}:
        return str if DEFAULTS[name] is not None else str | None
    return kind


def with_options(
    names: Collection[str] = tuple(OPTIONS),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command these fields of `Options` as parameters, in place of its own `options`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name != "options":
                parameters.append(parameter)
                continue
            parameters += [
                inspect.Parameter(
                    name,
                    parameter.kind,
                    default=None if name in LISTS else DEFAULTS[name],
                    annotation=Annotated[type_of(name), option(name)],
                )
                for name in names
            ]

        @wraps(command)
        def call(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in names}
            chosen |= {name: tuple(chosen[name] or ()) for name in LISTS & set(names)}
            command(options=Options(**chosen), **values)

        call.__annotations__ = {each.name: each.annotation for each in parameters}
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


class GroupedCommand(TyperCommand):
    """A command whose help has a heading for each group of options, as `GROUPS` has them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Called by typer for the help."""
        titles = {name: title for title, names in GROUPS.items() for name in names}
        groups: dict[str, list[tuple[str, str]]] = {
            title: [] for title in ("Arguments", "Options", *GROUPS)
        }
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            title = "Arguments" if is_argument else titles.get(str(parameter.name), "Options")
            if (record := parameter.get_help_record(ctx)) is not None:
                groups[title].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
