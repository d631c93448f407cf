"""Pictures in, mattes out: decode, normalise, run the network, restore the size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, require
from birefnet.imaging.geometry import Geometry, Preprocess
from birefnet.imaging.io import decode, decode_frames, snapshot
from birefnet.imaging.picture import Limits, Picture, warn_if_black
from birefnet.imaging.values import Resolution
from birefnet.inference.engines.base import Engine, takes_guidance
from birefnet.inference.stream import Prepared, Profile, Stream, mattes_of, timed
from birefnet.matte import Matte

if TYPE_CHECKING:
    from torch import nn

    from birefnet.imaging.io import Source
    from birefnet.inference.guidance import Guidance

Input: TypeAlias = "Source | Picture"
"""Whatever `birefnet.imaging.io.decode` reads, or a picture that is decoded already."""

DECODERS = 2  # threads that read pictures ahead of the network


class Predictor:
    """A network, and how its weights want their pictures.

    Args:
        network: an `Engine`, or a `torch.nn.Module` that maps a normalised batch (B,3,H,W) to
            logits (B,1,H,W) and will be run by `TorchEngine`.
        preprocess: size, mean, deviation, resize and views that belong to the weights; default:
            what the network or the engine's file says of itself, or else `Preprocess()`.
        device, dtype: for a module only, see `TorchEngine`; an engine has its own.
        limits: which pictures are refused as too large.
        convert_to_srgb: apply the pictures' ICC profiles, as the networks expect; otherwise pixels
            stay as stored, for those who write the profile along.
        name: of the weights, for reports.
        licence: of the weights, for reports.

    Attributes:
        profile: set it to a `Profile`, and the time of each stage is added up there.
        readers: threads that read pictures ahead of the network.
        reload: makes the same predictor again, for `pickle`; `birefnet.load` sets it.
    """

    def __init__(
        self,
        network: Engine | nn.Module,
        preprocess: Preprocess | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        limits: Limits | None = None,
        convert_to_srgb: bool = True,
        name: str | None = None,
        licence: str | None = None,
    ) -> None:
        self.engine = _as_engine(network, device, dtype)
        self.preprocess = preprocess or _own_preprocess(network) or Preprocess()
        self.limits = limits or Limits()
        self.convert_to_srgb = convert_to_srgb
        self.name = name
        self.licence = licence
        self.profile: Profile | None = None
        self.readers = DECODERS
        self.reload: Callable[[], Predictor] | None = None

    def __copy__(self) -> Predictor:
        """Another predictor of the same engine."""
        other = Predictor.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled, and copied deeply, it is the call of `birefnet.load` that made it: the weights
        are read again, not sent.

        Raises:
            BiRefNetError: `load` did not make it.
        """
        if self.reload is None:
            raise BiRefNetError(
                f"this predictor ({self.engine.name}) was made of a network in memory, so it "
                "cannot be pickled or copied deeply; save the network, and give its file to "
                "birefnet.load"
            )
        kept = ("preprocess", "limits", "convert_to_srgb", "name", "licence", "readers")
        state = {name: getattr(self, name) for name in kept}
        return self.reload, (), {**state, "reload": self.reload}

    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        source: Input,
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> Matte: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        source: list[Any] | tuple[Any, ...],
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> list[Matte]: ...
    @overload
    def predict(
        self,
        source: Iterable[Any],
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Matte]: ...

    def predict(
        self,
        source: Any,
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> Matte | list[Matte] | Iterator[Matte]:
        """The matte of one picture, or of many.

        Args:
            source: a path, bytes, open binary file, Pillow image, array or `Picture` → one `Matte`;
                a list or tuple of them → a list; any other iterable → a lazy iterator.
                Mattes keep nothing of the caller's memory: an array, image or open file may be
                filled anew once `predict` has returned, or the iterator is asked for its next.
                (A path is read a little later, in another thread.)
            resolution: size of the network's input; `None` as the weights want it, N, (width,
                height) or "native". Rounded to multiples of 32. Weights that want several views
                of a picture (`Preprocess.views`) get one where a resolution is given.
            batch_size: pictures of equal network size that run together; `None` leaves it to the
                engine. Mattes come in the order of their sources whatever it is. An iterator is
                read ahead by at most twice the batch size and some.

        Raises:
            ImageError: a picture that cannot be read; from an iterator, when its turn comes.
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        if is_single(source):
            prepared = self.prepare(source, resolution)
            return mattes_of([prepared], self.engine, self.profile)[0]
        mattes = self._stream(source, resolution, batch_size)
        if isinstance(source, (list, tuple)):
            return [_or_raise(matte) for matte in mattes]
        return map(_or_raise, mattes)

    def predict_each(
        self,
        sources: Iterable[Input],
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Matte | BiRefNetError]:
        """As `predict` of an iterator, but an error takes its picture's place; the rest go on."""
        return self._stream(sources, resolution, batch_size)

    def predict_guided(
        self,
        source: Input,
        guidance: Guidance | None = None,
        *,
        passes: int = 1,
        resolution: Resolution | None = None,
    ) -> Matte:
        """The matte of the object that is meant, at the picture's own resolution if asked for.

        Args:
            source: one picture, see `predict`.
            guidance: boxes around the object, points on it, or a coarse mask of it; `None` for what
                the network finds by itself.
            passes: 2 looks at undecided regions and edges again, closer and closer, down to the
                picture's own resolution (`birefnet.inference.guidance.refine_detail`).
            resolution: see `predict`.

        Raises:
            ImageError: a picture that cannot be read.
            BiRefNetError: boxes or points outside the picture, or another number of passes.
        """
        from birefnet.inference import guidance as guide

        if passes not in (1, 2):
            raise BiRefNetError(f"passes is {passes}; give 1 or 2")
        picture = source if isinstance(source, Picture) else self._decode(source)

        def predict(part: Picture, meant: guide.Guide | None = None) -> NDArray[np.float32]:
            prepared = self.prepare(part, resolution)
            if meant is not None:
                channel = meant.draw(prepared.geometry)[None]
                prepared = replace(prepared, input=np.concatenate([prepared.input, channel]))
            return mattes_of([prepared], self.engine, self.profile)[0].alpha

        def predict_many(parts: Sequence[Picture]) -> list[NDArray[np.float32]]:
            return [matte.alpha for matte in self.predict(list(parts), resolution=resolution)]

        alpha = guide.matte_of(
            predict,
            picture,
            guidance or guide.Guidance(),
            has_channel=takes_guidance(self.engine),
        )
        if passes == 2:
            geometry = self.plan(picture, resolution)
            alpha = guide.refine_detail(
                predict,
                picture,
                alpha,
                side=min(geometry.input),
                predict_many=predict_many,
                overwrite=True,
            )
        return Matte(alpha, picture)

    def predict_frames(
        self,
        source: Source,
        *,
        resolution: Resolution | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Matte]:
        """The mattes of all frames of an animation, lazily; `matte.picture.duration_ms` times them.

        A still picture gives one. Arguments and errors as for `predict`.
        """
        return self.predict(
            decode_frames(source, limits=self.limits, convert_to_srgb=self.convert_to_srgb),
            resolution=resolution,
            batch_size=batch_size,
        )

    def prepare(self, source: Input, resolution: Resolution | None = None) -> Prepared:
        """First of the three steps of `predict`, for those who run them in threads of their own.

        The others are `birefnet.inference.stream.infer`, of stacked inputs of one size, and
        `Prepared.restore`.
        """
        picture = source if isinstance(source, Picture) else self._decode(source)
        with timed(self.profile, "prepare"):
            geometry = self.plan(picture, resolution)
            views = self.preprocess.views if resolution is None else ()
            return Prepared(picture, geometry, geometry.apply(picture.pixels), views)

    def plan(self, picture: Picture, resolution: Resolution | None = None) -> Geometry:
        """Where a picture lies in the network's (largest) input; see `predict` for `resolution`."""
        if resolution is None and self.preprocess.views:
            resolution = self.preprocess.views[0][:2]
        return self.preprocess.plan(picture.height, picture.width, resolution)

    def _decode(self, source: Source) -> Picture:
        with timed(self.profile, "decode"):
            return warn_if_black(
                decode(source, limits=self.limits, convert_to_srgb=self.convert_to_srgb)
            )

    def _snapshot(self, source: Input) -> Input:
        kept = snapshot(source, limits=self.limits, convert_to_srgb=self.convert_to_srgb)
        return kept if kept is source or not isinstance(kept, Picture) else warn_if_black(kept)

    def _stream(
        self, sources: Iterable[Input], resolution: Resolution | None, batch_size: int | None
    ) -> Iterator[Matte | BiRefNetError]:
        size = self.engine.batch_size if batch_size is None else batch_size
        if size < 1:
            raise BiRefNetError(f"batch_size is {size}; give 1 or more")
        stream = Stream(
            self.engine,
            lambda source: self.prepare(source, resolution),
            snapshot=_as_it_is if isinstance(sources, (list, tuple)) else self._snapshot,
            batch_size=size,
            readers=self.readers,
            profile=self.profile,
        )
        return stream.results(iter(sources))


def is_single(source: object) -> bool:
    """Whether `source` is one picture rather than many (strings, arrays and files iterate too)."""
    if isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray, Picture)):
        return True
    if hasattr(source, "read") or hasattr(source, "__array__"):
        return True
    return not isinstance(source, Iterable)


def _as_engine(network: Engine | nn.Module, device: str, dtype: str) -> Engine:
    if isinstance(network, Engine):
        if (device, dtype) != ("auto", "auto"):
            raise BiRefNetError(
                f"got device={device!r} and dtype={dtype!r} together with the engine "
                f"{network.name!r}, which has its own; set them where the engine is made"
            )
        return network
    require("running a network as a torch module", "torch")
    from birefnet.inference.engines.torch_engine import TorchEngine

    return TorchEngine(network, device, dtype)


def _own_preprocess(network: Engine | nn.Module) -> Preprocess | None:
    """Of a network with trained weights, or of the file that an engine runs."""
    described = getattr(network, "metadata", network)
    own = getattr(described, "preprocess", None)
    return own if isinstance(own, Preprocess) else None


def _as_it_is(source: Input) -> Input:
    return source


def _or_raise(result: Matte | BiRefNetError) -> Matte:
    if isinstance(result, BiRefNetError):
        raise result
    return result
