"""rembg's Python interface, offered by `birefnet.compat.rembg`.

Signatures and meanings: https://github.com/danielgatis/rembg (2.0, read November 2026). What
differs on purpose is in docs/drop_in.md: mattes are never stretched to their own minimum and
maximum, and the old background's colour is always taken out of the edges.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.compat.rembg.arguments import OWN_ARGUMENTS, options_of
from birefnet.compat.rembg.names import BACKGROUND, ERODE, FOREGROUND
from birefnet.compat.rembg.render import band_of, post_processed, render
from birefnet.compat.rembg.session_factory import new_session
from birefnet.compat.rembg.sessions import (
    BaseSession,
    Session,
    class_of,
    sessions,
    sessions_names,
    sessions_names_downloadable,
)
from birefnet.errors import UsageError
from birefnet.imaging.encoding import encode
from birefnet.imaging.io import decode
from birefnet.imaging.picture import to_float, to_uint8
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.weights.locate import default_model

__all__ = [
    "BaseSession",
    "Session",
    "download_models",
    "new_session",
    "post_processed",
    "remove",
    "sessions",
    "sessions_names",
    "sessions_names_downloadable",
]


def remove(
    data: Any,
    alpha_matting: bool = False,
    alpha_matting_foreground_threshold: int = FOREGROUND,
    alpha_matting_background_threshold: int = BACKGROUND,
    alpha_matting_erode_size: int = ERODE,
    session: BaseSession | None = None,
    only_mask: bool = False,
    post_process_mask: bool = False,
    decontaminate: bool = False,
    vitmatte: bool = False,
    vitmatte_model: str | None = None,
    bgcolor: Sequence[int] | None = None,
    force_return_bytes: bool = False,
    *args: object,
    **kwargs: Any,
) -> Any:
    """Cut the subject out of a picture.

    Args:
        data: bytes of a file, a Pillow image, an array H x W (x 3 or 4), a path or an open binary
            file.
        alpha_matting: find alpha anew inside a band along the edge, see `Matte.matted`.
        alpha_matting_foreground_threshold, alpha_matting_background_threshold: have no effect (a
            warning says so): certain is what the network is sure of by 95 %.
        alpha_matting_erode_size: width of that band [px].
        session: see `new_session`; `None` for the default network, which is loaded once. A session
            of rembg itself, or another object with its `predict`, gives its masks, and gets
            `sam_prompt` and every argument that is not known here.
        only_mask: the mask instead of the cut-out.
        post_process_mask: remove specks from the mask, smooth it and make it all or nothing.
        decontaminate: has no effect, for the old background's colour is always taken out.
        vitmatte: the same as `alpha_matting`, with a warning: ViTMatte is not part of this package.
        vitmatte_model: has no effect, as the same warning says.
        bgcolor: R, G, B, A from 0 to 255 behind the subject.
        force_return_bytes: return bytes whatever came.
        **kwargs: `putalpha=True` keeps the picture's own colours; `alpha_matting_method` is one of
            `birefnet.imaging.matting.METHODS`; others are fields of `birefnet.options.Options`,
            such as `resolution`, `passes`, `crop`. The object is chosen by `boxes`,
            `points` and `not_points` (lists of numbers), or by `sam_prompt` as to rembg's session
            `sam`, whatever the network.

    Returns:
        Bytes of a PNG for bytes, paths and files; a Pillow image, RGBA (L with `only_mask`), for
        one; an array, H x W x 4 (H x W) uint8, for an array.

    Raises:
        BiRefNetError: the picture cannot be read, or an argument is unknown or makes no sense.
    """
    if args:
        raise TypeError("remove takes its further arguments by name")
    if vitmatte or vitmatte_model is not None:
        warnings.warn(
            "ViTMatte is not part of this package: a guided filter refines the edges", stacklevel=2
        )
        alpha_matting = True
    kwargs.pop("model_name", None)
    own_colours = bool(kwargs.pop("putalpha", False))
    method = kwargs.pop("alpha_matting_method", "guided")
    choices: dict[str, object] = {
        "kind": "mask" if only_mask else "cutout",
        "refine": not own_colours,
    }
    if alpha_matting:
        given = (alpha_matting_foreground_threshold, alpha_matting_background_threshold)
        if given != (FOREGROUND, BACKGROUND):
            warnings.warn("thresholds of alpha matting have no effect", stacklevel=2)
        choices |= {"matting": method, "band": band_of(alpha_matting_erode_size)}
    if bgcolor is not None and not only_mask:
        choices["background"] = _colour(bgcolor)
    if session is None:
        session = _default(default_model())
    options, mattes = _predict(session, data, kwargs, choices)
    # As in rembg, several masks of a picture come one below the other.
    rendered = [render(matte, options, post_process=post_process_mask) for matte in mattes]
    return _returned(np.concatenate(rendered), data, force_return_bytes)


def _predict(
    session: BaseSession, data: Any, arguments: dict[str, Any], choices: dict[str, Any]
) -> tuple[Options, list[Matte]]:
    """The options of a call, and the mattes of its session."""
    if isinstance(session, Session):
        options = options_of(arguments, **choices)
        return options, [options.predict(session.predictor, data)]
    own = {key: value for key, value in arguments.items() if key in OWN_ARGUMENTS}
    others = {key: value for key, value in arguments.items() if key not in own}
    options = options_of(own, **choices)
    return options, _foreign_mattes(session, data, options, others)


def _foreign_mattes(
    session: BaseSession, data: Any, options: Options, arguments: Mapping[str, object]
) -> list[Matte]:
    """The mattes of a session whose network is not of this package; it gets the arguments."""
    from PIL import Image

    if not options.is_plain or options.resolution is not None:
        raise UsageError(
            "boxes, points, passes and resolution need a network of this package; leave them out, "
            "or choose another session"
        )
    picture = decode(data)
    masks = session.predict(Image.fromarray(to_uint8(picture.pixels)), **arguments)
    return [Matte(to_float(np.asarray(mask.convert("L"))), picture) for mask in masks]


def download_models(*models: str | Iterable[str]) -> list[str]:
    """Fetch weights ahead of their use; returns where they are.

    Args:
        models: names, or one tuple of names as rembg has it.

    Raises:
        BiRefNetError: no such network, none named, or no way to it.
    """
    names = [name for item in models for name in ([item] if isinstance(item, str) else item)]
    if not names:
        raise UsageError(f"name the models to fetch, of {', '.join(sessions_names_downloadable)}")
    return [class_of(name).download_models() for name in names]


def _colour(bgcolor: Sequence[int]) -> tuple[int, ...]:
    colour = tuple(int(value) for value in bgcolor)
    if len(colour) != 4 or not all(0 <= value <= 255 for value in colour):
        raise UsageError(f"bgcolor is {tuple(bgcolor)}; give R, G, B, A from 0 to 255")
    return colour


def _returned(rendered: NDArray[np.uint8], data: object, force_bytes: bool) -> object:
    from PIL import Image

    if isinstance(data, np.ndarray) and not force_bytes:
        return rendered
    if isinstance(data, Image.Image) and not force_bytes:
        return Image.fromarray(rendered)
    return encode(rendered, format="png")


@lru_cache(maxsize=1)
def _default(name: str) -> BaseSession:
    return new_session(name)
