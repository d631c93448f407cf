"""The widgets of the node with every option of `birefnet.options.Options`, and what they say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import parse_colour
from birefnet.imaging.matting import METHODS
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
from birefnet.options import Options

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

REFINE = switch(True, "Take the old background's colour out of the edges.")
OFFSET = number(0, -64, 64, 0.5, "Move the edge outwards (> 0) or inwards, in pixels.")
BLUR = number(0, 0, 64, 0.5, "Soften the edge, in pixels.")
THRESHOLD = number(0, 0, 1, 0.01, "Make each pixel all or nothing at this alpha; 0 leaves it soft.")
MARGIN = text("0", "Around what is trimmed: pixels such as 24, or 5% of the longer side.")
ASPECT = text("", "Shape of what is trimmed: square, 4:5; empty for the subject's own.")
SMALLEST = text("0.1%", "Area from which on a part is an object: pixels, or a share.")

WIDGETS: dict[str, Widget] = {
    "colour": COLOUR,
    "width": WIDTH,
    "height": HEIGHT,
    "native_size": advanced(switch(False, "The network sees each picture's own size.")),
    "batch_size": advanced(BATCH),
    "boxes": text("", "Around the object: x0,y0,x1,y1 in pixels or shares; several: ; between."),
    "points": text("", "On the object: x,y; several: ; between."),
    "other_points": text("", "On what is not meant: x,y; several: ; between."),
    "passes": whole(1, 1, 2, "2 redoes edges at the picture's own resolution."),
    "refine_foreground": REFINE,
    "mask_offset": OFFSET,
    "mask_blur": BLUR,
    "threshold": THRESHOLD,
    "matting": choice(
        list(METHODS), "Alpha once more where it is uncertain, from the picture's colours."
    ),
    "band": advanced(
        number(0, 0, 512, 0.5, "Half of the uncertain band's width in pixels; 0 suits the size.")
    ),
    "crop": switch(False, "Trim to the subject; a batch to what all of its subjects take up."),
    "crop_margin": advanced(MARGIN),
    "aspect": advanced(ASPECT),
    "shadow": choice(
        ["none", "ground", "drop", "keep"], "Below the subject; keep is the photograph's own."
    ),
    "shadow_strength": advanced(number(0, 0, 1, 0.05, "At its darkest; 0 for the usual one.")),
    "shadow_blur": advanced(number(1, 0, 8, 0.1, "Softness; 1 is usual, 0 hard.")),
    "shadow_angle": advanced(
        number(60, -180, 180, 1, "Where it falls: 0 away from the viewer, 90 to the right.")
    ),
    "shadow_length": advanced(number(0.5, 0, 8, 0.1, "In heights of the subject.")),
}
"""In this order saved workflows hold them: new ones go to the end."""

WIDGETS_OF: dict[str, tuple[str, ...]] = {
    "kind": ("output",),
    "background": ("background", "colour"),
    "resolution": ("width", "height", "native_size"),
    "refine": ("refine_foreground",),
    "guide": ("guide",),
    **{field.name: (field.name,) for field in fields(Options) if field.name in WIDGETS},
}
"""Option → the inputs of the node that say it."""

NOT_HERE = {
    "format": "pictures are not encoded",
    "quality": "pictures are not encoded",
    "keep_profile": "ComfyUI's pictures have no profile",
    "metadata": "pictures are not encoded",
    "objects": "a node of its own, BiRefNetObjects",
    "min_object": "a node of its own, BiRefNetObjects",
}
"""Option → why the node lacks it."""


def options_of(output: str, *, has_background: bool, **said: Any) -> Options:
    """What the widgets say, checked; what is missing has the widget's default.

    Raises:
        BiRefNetError: one sentence on what makes no sense.
    """
    if has_background != (output == "picture"):
        raise BiRefNetError(
            "the output picture needs a background: connect one to the node"
            if output == "picture"
            else f"a background is connected and the output is {output}; choose picture"
        )
    said = {name: widget[1]["default"] for name, widget in WIDGETS.items()} | said
    is_plain_colour = output in ("colour", "picture")
    chosen: dict[str, Any] = {
        "kind": "colour" if is_plain_colour else output,
        # A picture takes the colour's place when its turn comes.
        "background": parse_colour(said["colour"]) if is_plain_colour else None,
        "resolution": resolution_of(said["width"], said["height"], said["native_size"]),
        "batch_size": said["batch_size"] or None,
        "refine": said["refine_foreground"],
        "mask_offset": said["mask_offset"],
        "mask_blur": said["mask_blur"],
        "threshold": said["threshold"] or None,
        "passes": said["passes"],
        "matting": said["matting"],
        "crop": said["crop"],
        "shadow": said["shadow"],
        **{name: _several(said[name]) for name in ("boxes", "points", "other_points")},
    }
    # What belongs to something that is off is left alone, as widgets always have a value.
    if said["matting"] != "none" or output == "trimap":
        chosen["band"] = said["band"] or None
    if said["crop"]:
        chosen |= {"crop_margin": said["crop_margin"], "aspect": said["aspect"] or None}
    if said["shadow"] != "none":
        chosen["shadow_strength"] = said["shadow_strength"] or None
    if said["shadow"] in ("ground", "drop"):
        chosen |= {name: said[name] for name in ("shadow_blur", "shadow_angle", "shadow_length")}
    return Options(**chosen).prepared()


def _several(said: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in said.split(";") if part.strip())
