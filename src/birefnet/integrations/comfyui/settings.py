"""The widgets of the node with every option of `birefnet.options.Options`, and what they say."""

from __future__ import annotations

from typing import Any

from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import parse_colour
from birefnet.integrations.comfyui.widgets import (
    BATCH,
    COLOUR,
    HEIGHT,
    WIDTH,
    Widget,
    advanced,
    choice,
    number,
    resolution_of,
    switch,
    text,
    whole,
)
from birefnet.options import OPTIONS, Options

KINDS = [
    "cutout",
    "colour",
    "picture",
    "white",
    "green",
    "blur",
    "foreground",
    "mask",
    "trimap",
    "overlay",
]

_STEPS = {
    "mask_offset": 0.5,
    "mask_blur": 0.5,
    "threshold": 0.01,
    "band": 0.5,
    "shadow_strength": 0.05,
    "shadow_blur": 0.1,
    "shadow_angle": 1,
    "shadow_length": 0.1,
}
_MOST = {"mask_offset": 64, "mask_blur": 64, "band": 512, "shadow_blur": 8, "shadow_angle": 180}
"""Where a widget ends before the option does."""


def widget(name: str) -> Widget:
    """The widget of an option. Empty text and 0 leave out what is `None` by default."""
    about, default = OPTIONS[name], OPTIONS[name].default
    help = about.help if not about.usual else f"{about.help} 0 or empty means {about.usual}."
    if about.choices:
        return choice(list(about.choices), help)
    if isinstance(default, bool):
        return switch(default, help)
    if about.range is None:
        return text(default or "", f"{help} Several: ; between." if about.is_list else help)
    most = _MOST.get(name, about.range.most)
    least = max(about.range.least, -most)
    if name in _STEPS:
        return number(default or 0, least, most, _STEPS[name], help)
    return whole(default, int(least), int(most), help)


WIDGETS: dict[str, Widget] = {
    "colour": COLOUR,
    "width": WIDTH,
    "height": HEIGHT,
    "native_size": advanced(switch(False, "The network sees each picture's own size.")),
    "batch_size": advanced(BATCH),
    **{name: widget(name) for name in ("boxes", "points", "other_points", "passes")},
    "refine_foreground": widget("refine"),
    **{name: widget(name) for name in ("mask_offset", "mask_blur", "threshold", "matting")},
    "band": advanced(widget("band")),
    "crop": widget("crop"),
    "crop_margin": advanced(widget("crop_margin")),
    "aspect": advanced(widget("aspect")),
    "shadow": widget("shadow"),
    **{
        name: advanced(widget(name))
        for name in ("shadow_strength", "shadow_blur", "shadow_angle", "shadow_length")
    },
    **{name: advanced(widget(name)) for name in ("outline", "outline_colour")},
}
"""In this order saved workflows hold them: new ones go to the end."""


def options_of(output: str, *, has_background: bool, **values: Any) -> Options:
    """The values of the widgets, checked; one that is missing has the widget's default.

    Raises:
        BiRefNetError: one sentence on what makes no sense.
    """
    if has_background != (output == "picture"):
        raise BiRefNetError(
            "the output picture needs a background: connect one to the node"
            if output == "picture"
            else f"a background is connected and the output is {output}; choose picture"
        )
    values = {name: widget[1]["default"] for name, widget in WIDGETS.items()} | values
    is_plain_colour = output in ("colour", "picture")
    chosen = {
        name: values[name] if about.default is not None else values[name] or None
        for name, about in OPTIONS.items()
        if name in WIDGETS
    }
    chosen |= {
        name: tuple(part.strip() for part in values[name].split(";") if part.strip())
        for name, about in OPTIONS.items()
        if about.is_list
    }
    chosen |= {
        "kind": "colour" if is_plain_colour else output,
        # A picture takes the colour's place when its turn comes.
        "background": parse_colour(values["colour"]) if is_plain_colour else None,
        "resolution": resolution_of(values["width"], values["height"], values["native_size"]),
        "refine": values["refine_foreground"],
    }
    return Options.of_form(chosen).prepared()
