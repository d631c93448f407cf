"""Carry out drafts in batches on the training device: the operations of `render`, in torch.

The workers only decode (or read from the cache), cut and resize; warps, colours, layers, shadows,
blur, noise, JPEG and pepper happen here. The numbers are those that `render` would have used, so a
sample looks the same either way, but for noise, which each way draws for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from birefnet.training.data import jpeg, render
from birefnet.training.data.draft import LUMA, Colour, Draft, Layer, Shadow
from birefnet.training.data.sources import Pixels

_WIDEST_BLUR = 3.0  # standard deviation above which a smaller picture is blurred instead [px]
_NO_SHADOW = Shadow(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Numbers:
    """What is left to do with a batch of B pictures and their N layers.

    Attributes:
        theta: B x 2 x 3, of views, see `draft.View`.
        scene, finish: B x 10, changes of colour: 3 x 3 matrix and contrast.
        blurs: B x 2, standard deviations of scene and finished picture [px].
        dirt: B x 3, noise, JPEG quality and share of pepper; 0 for none.
        rasters: N x 4 x H x W, uint8, layers multiplied by alpha; empty space right and below.
        layers: N x 24: owner, theta, change of colour, match, blur, whether it is a subject, and
            the shadow's four numbers.
    """

    theta: Tensor
    scene: Tensor
    finish: Tensor
    blurs: Tensor
    dirt: Tensor
    rasters: Tensor
    layers: Tensor

    def to(self, device: torch.device) -> Numbers:
        """Only the rasters travel: the host looks at the numbers to see what is to be done."""
        return replace(self, rasters=self.rasters.to(device, non_blocking=True))

    def pin_memory(self) -> Numbers:
        return replace(self, rasters=self.rasters.pin_memory())


def pack(draft: Draft, height: int, width: int) -> tuple[Pixels, Pixels, Numbers]:
    """The worker's part: scene and truth at the canvas' size, and what is left to do.

    Returns:
        height x width x 3, height x width, and the numbers of a batch of one.
    """
    left, top, right, bottom = draft.view.box
    part = draft.scene[top:bottom, left:right]
    rgb, truth = render.split(render.resize(part, height, width))
    rasters, rows = [], []
    for layer in draft.layers:
        raster, scale = _raster(layer, height, width)
        theta = layer.theta * scale[:, None]
        theta[:, 2] += scale - 1  # the cut-out lies in the raster's upper left corner
        shadow = layer.shadow or _NO_SHADOW
        numbers = (0.0, *theta.ravel(), *_colour(layer.colour), layer.match, layer.blur)
        shade = (shadow.right, shadow.down, shadow.spread, shadow.strength)
        rows.append((*numbers, float(layer.is_subject), *shade))
        rasters.append(raster)
    how = draft.finish
    empty = torch.empty((0, 4, height, width), dtype=torch.uint8)
    return (
        rgb,
        truth,
        Numbers(
            theta=_row(draft.view.theta.ravel()).view(1, 2, 3),
            scene=_row(_colour(draft.scene_colour)),
            finish=_row(_colour(how.colour)),
            blurs=_row((draft.scene_blur, how.blur)),
            dirt=_row((how.noise, how.jpeg, how.pepper)),
            rasters=torch.from_numpy(np.stack(rasters)) if rasters else empty,
            layers=torch.tensor(rows).reshape(-1, 24),
        ),
    )


def join_numbers(parts: Sequence[Numbers | None]) -> Numbers | None:
    """One batch of several; None where nothing is left to do."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    for owner, part in enumerate(known):
        part.layers[:, 0] = owner
    return Numbers(*(torch.cat([getattr(part, f.name) for part in known]) for f in fields(Numbers)))


def _raster(layer: Layer, height: int, width: int) -> tuple[Pixels, NDArray]:
    """A cut-out at its size on the canvas (at most all of it), 4 x height x width.

    Returns:
        The planes, and which share of their width and height it takes.
    """
    own_h, own_w = layer.pixels.shape[:2]
    scale = min(layer.scale, height / own_h, width / own_w)
    small = render.shrunk_cutout(render.premultiplied(layer.pixels), scale)
    high, wide = small.shape[:2]
    planes = np.zeros((4, height, width), np.uint8)
    planes[:, :high, :wide] = cv2.split(small)
    return planes, np.array([wide / width, high / height])


def _colour(colour: Colour | None) -> tuple[float, ...]:
    colour = colour or Colour()
    return (*colour.linear.ravel(), colour.contrast)


def _row(values: Sequence[float] | NDArray) -> Tensor:
    return torch.tensor(np.asarray(values, np.float32))[None]


@torch.no_grad()
def finish_batch(
    image: Tensor, truth: Tensor, todo: Numbers | None, *, seed: Sequence[int], binary: bool
) -> tuple[Tensor, Tensor]:
    """Finish a batch where it lies.

    Args:
        image, truth: B x 3 x H x W and B x 1 x H x W, uint8.
        todo: what is left to do, or None for nothing.
        seed: of noise and pepper.
        binary: cut the truth at half.

    Returns:
        Both as float32 in [0, 1].
    """
    x, t = image.float() / 255, truth.float() / 255
    if todo is not None:
        x, t = _turn(x, t, todo.theta)
        x = _recolour(x, todo.scene)
        x = _blur_each(x, todo.blurs[:, 0])
        x, t = _put_layers(x, t, todo)
        x = _blur_each(_recolour(x, todo.finish), todo.blurs[:, 1])
        x = _soil(x, todo.dirt, seed)
    return x, (t >= 0.5).float() if binary else t


def _turn(x: Tensor, t: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Views; what is only mirrored stays exact."""
    straight = (theta.abs() == torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])).all(dim=(1, 2))
    for axis, dim in ((0, 3), (1, 2)):
        mirrored = (straight & (theta[:, axis, axis] < 0)).nonzero().flatten().tolist()
        if mirrored:
            x[mirrored], t[mirrored] = x[mirrored].flip(dim), t[mirrored].flip(dim)
    turned = (~straight).nonzero().flatten().tolist()
    if turned:
        out = warp(torch.cat([x[turned], t[turned]], 1), theta[turned], reflect=True)
        x[turned], t[turned] = out[:, :3], out[:, 3:]
    return x, t


def warp(x: Tensor, theta: Tensor, *, reflect: bool) -> Tensor:
    """Resample N x C x H x W bilinearly by N x 2 x 3 matrices, see `draft.View`.

    Args:
        reflect: continue pictures by their reflection; else there is nothing beyond them.
    """
    grid = functional.affine_grid(theta.to(x), list(x.shape), align_corners=False)
    if reflect:  # written out, for Apple's GPUs have neither reflection nor repeated borders
        inside = 1 - 1 / torch.tensor([x.shape[3], x.shape[2]], dtype=x.dtype, device=x.device)
        grid = 1 - ((grid + 1).remainder(4) - 2).abs()
        grid = torch.maximum(torch.minimum(grid, inside), -inside)  # centres of the outer pixels
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def shrink(x: Tensor, factor: int) -> Tensor:
    """Means of factor x factor blocks, the last ones filled up by their border.

    Apple's GPUs resize by area only to sizes that divide.
    """
    room = (0, -x.shape[3] % factor, 0, -x.shape[2] % factor)
    return functional.avg_pool2d(functional.pad(x, room, mode="replicate"), factor)


def _matrices(colours: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """N x 3 x 3 matrices and N contrasts on the device."""
    colours = colours.to(like)
    return colours[:, :9].view(-1, 3, 3), colours[:, 9]


def _offset(linear: Tensor, contrast: Tensor, mean: Tensor) -> Tensor:
    """What contrast adds (N) for mean colours N x 3, see `draft.Colour.offset`."""
    luma = torch.tensor(LUMA, dtype=mean.dtype, device=mean.device)
    return (1 - contrast) * torch.einsum("c,ncd,nd->n", luma, linear, mean)


def _recolour(x: Tensor, colours: Tensor) -> Tensor:
    identity = torch.tensor(_colour(None))
    if torch.equal(colours, identity.expand_as(colours)):
        return x
    linear, contrast = _matrices(colours, x)
    offset = _offset(linear, contrast, x.mean(dim=(2, 3)))
    out = torch.einsum("ncd,ndhw->nchw", contrast[:, None, None] * linear, x)
    return (out + offset[:, None, None, None]).clamp_(0, 1)


def _blur_each(x: Tensor, sigmas: Tensor) -> Tensor:
    for i, sigma in enumerate(sigmas.tolist()):
        if sigma >= 0.1:
            x[i] = blur(x[i : i + 1], sigma)[0]
    return x


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of N x C x H x W with standard deviation `sigma` [px], as `render.blur`."""
    if sigma < 0.1:
        return x
    height, width = x.shape[2:]
    factor = max(1, int(sigma / _WIDEST_BLUR))
    if factor > 1:
        x = shrink(x, factor)
    radius = max(1, round(3 * sigma / factor))
    steps = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(steps**2) / (2 * (sigma / factor) ** 2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    for dim, weight in ((2, kernel[..., None]), (3, kernel[..., None, :])):
        room = min(radius, x.shape[dim] - 1)
        pad = [0, 0, room, room] if dim == 2 else [room, room, 0, 0]
        weight = weight.narrow(dim, radius - room, 2 * room + 1)
        x = functional.conv2d(functional.pad(x, pad, mode="reflect"), weight, groups=x.shape[1])
    if factor > 1:
        x = functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)
    return x


def _put_layers(x: Tensor, t: Tensor, todo: Numbers) -> tuple[Tensor, Tensor]:
    """Layers over their pictures: the lowest of each first, then all second ones, and so on."""
    if not len(todo.layers):
        return x, t
    owners = [int(owner) for owner in todo.layers[:, 0]]
    scene_mean = x.mean(dim=(2, 3))
    level = [owners[:i].count(owner) for i, owner in enumerate(owners)]
    for now in range(max(level) + 1):
        chosen = [i for i, at in enumerate(level) if at == now]
        below = [owners[i] for i in chosen]
        rows = todo.layers[chosen]
        layer = _coloured(todo.rasters[chosen].float() / 255, rows, scene_mean[below])
        layer = warp(layer, rows[:, 1:7].view(-1, 2, 3), reflect=False)
        layer = _blur_each(layer, rows[:, 18])
        own, alpha = layer[:, :3], layer[:, 3:]
        under = _shade(x[below], alpha, rows[:, 19:])
        x[below] = own + under * (1 - alpha)
        subject = rows[:, 19].to(x).view(-1, 1, 1, 1)
        t[below] = alpha * subject + t[below] * (1 - alpha)
    return x, t


def _coloured(layer: Tensor, rows: Tensor, scene_mean: Tensor) -> Tensor:
    """Layers with their own change of colour, moved towards their scene's."""
    own, alpha = layer[:, :3], layer[:, 3:]
    linear, contrast = _matrices(rows[:, 7:17], layer)
    mean = own.sum(dim=(2, 3)) / alpha.sum(dim=(2, 3)).clamp_min(1)
    linear_c = contrast[:, None, None] * linear
    offset = _offset(linear, contrast, mean)[:, None]
    changed = torch.einsum("ncd,nd->nc", linear_c, mean) + offset
    offset = offset + rows[:, 17:18].to(layer) * (scene_mean - changed)
    own = torch.einsum("ncd,ndhw->nchw", linear_c, own) + offset[:, :, None, None] * alpha
    return torch.cat([torch.minimum(own.clamp_min(0), alpha), alpha], 1)


def _shade(x: Tensor, alpha: Tensor, numbers: Tensor) -> Tensor:
    """Darken where the shadows of `alpha` fall; see `draft.Shadow`."""
    height, width = x.shape[2:]
    side = min(height, width)
    factor = max(1, side // 256)
    for i, (_, right, down, spread, strength) in enumerate(numbers.tolist()):
        if strength == 0:
            continue
        small = shrink(alpha[i : i + 1], factor)
        reach = side / factor
        move = torch.tensor([[[1.0, 0, -2 * right * side / width],
                              [0, 1.0, -2 * down * side / height]]])  # fmt: skip
        small = blur(warp(small, move, reflect=False), max(0.3, spread * reach))
        dark = functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        x[i] = x[i] * (1 - strength * dark[0])
    return x


def _soil(x: Tensor, dirt: Tensor, seed: Sequence[int]) -> Tensor:
    """Noise, JPEG and pepper."""
    noise, quality, pepper = dirt.unbind(1)
    generator = torch.Generator(x.device)
    state = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0]
    generator.manual_seed(int(state >> np.uint64(1)))
    noisy = noise.nonzero().flatten().tolist()
    if noisy:
        grain = torch.empty_like(x[noisy]).normal_(generator=generator)
        x[noisy] = x[noisy] + grain * noise[noisy].to(x).view(-1, 1, 1, 1)
    x = x.clamp_(0, 1)
    compressed = quality.nonzero().flatten().tolist()
    if compressed:
        x[compressed] = jpeg.compress(x[compressed], quality[compressed].to(x))
    peppered = pepper.nonzero().flatten().tolist()
    if peppered:
        luck = torch.empty_like(x[peppered][:, :1]).uniform_(generator=generator)
        share = pepper[peppered].to(x).view(-1, 1, 1, 1)
        struck = torch.where(luck < share, (luck < share / 2).to(x), x[peppered])
        x[peppered] = struck
    return x
