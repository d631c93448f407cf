"""Modulated deformable convolution: its definition, its derivatives, its speed-ups, its errors."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from birefnet.network.deform import choice, deformable_conv2d, deformable_conv2d_reference, portable
from opcheck_cases import broken_promises

SIZES = (1, 3, 7)


def arguments(
    size: int,
    *,
    batch: int = 2,
    channels: int = 5,
    out_channels: int = 4,
    grid: tuple[int, int] = (11, 7),
    spread: float = 3.0,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random x, offset, mask, weight and bias; offsets of `spread` pixels reach far outside."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (batch, channels, *grid),
        "offset": (batch, 2 * size**2, *grid),
        "mask": (batch, size**2, *grid),
        "weight": (out_channels, channels, size, size),
        "bias": (out_channels,),
    }
    x, offset, mask, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes.values()
    )
    return tuple(  # type: ignore[return-value]
        tensor.to(dtype) for tensor in (x, spread * offset, 2 * mask.sigmoid(), weight, bias)
    )


def gradients(function, tensors: tuple[Tensor | None, ...]) -> list[Tensor]:
    """Result of the function, and its gradients under one fixed weighting of the result."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    weighting = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).cos().view(out.shape)
    found = [leaf for leaf in leaves if leaf is not None]
    return [out.detach(), *torch.autograd.grad(out, found, weighting.to(out))]


@pytest.fixture(params=["numba", "torch", "torch as on other devices"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to compute a derivative."""
    if request.param == "numba":
        pytest.importorskip("numba")
        assert choice.numba_kernels() is not None
        return
    monkeypatch.setattr(choice, "numba_kernels", lambda: None)
    if request.param == "torch as on other devices":
        monkeypatch.setattr(portable, "_BAG_DEVICES", frozenset())
        monkeypatch.setattr(portable, "_SORTING_DEVICES", frozenset())


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces in each image of 80 pixels or more."""
    monkeypatch.setattr(portable, "_CPU_COLUMNS", 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", [deformable_conv2d, deformable_conv2d_reference])
def test_without_offsets_it_is_an_ordinary_convolution(function, size: int) -> None:
    x, offset, mask, weight, bias = arguments(size)
    out = function(x, torch.zeros_like(offset), torch.ones_like(mask), weight, bias)
    torch.testing.assert_close(out, F.conv2d(x, weight, bias, padding=size // 2))


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (-3, 2), (30, 0)])
@pytest.mark.parametrize("function", [deformable_conv2d, deformable_conv2d_reference])
def test_whole_offsets_shift_the_picture(function, shift: tuple[int, int]) -> None:
    x, offset, _, weight, _ = arguments(3)
    dy, dx = shift
    offset[:, 0::2], offset[:, 1::2] = dy, dx
    shifted = F.pad(x, (40, 40, 40, 40))
    shifted = shifted.roll((-dy, -dx), (2, 3))[..., 39:-39, 39:-39]
    torch.testing.assert_close(function(x, offset, None, weight), F.conv2d(shifted, weight))


def test_half_a_pixel_outside_mixes_with_zeros() -> None:
    x = torch.tensor([[[[2.0, 4.0], [6.0, 8.0]]]])
    offset = torch.zeros(1, 2, 2, 2)
    offset[:, 0, 0], offset[:, 0, 1] = -0.5, 0.75
    out = deformable_conv2d(x, offset, None, torch.ones(1, 1, 1, 1))
    assert out.tolist() == [[[[1.0, 2.0], [1.5, 2.0]]]]


def test_taps_go_row_by_row_and_offsets_are_pairs_of_y_and_x() -> None:
    x = torch.arange(35.0).view(1, 1, 5, 7)
    offset, mask = torch.zeros(1, 18, 5, 7), torch.zeros(1, 9, 5, 7)
    mask[:, 5] = 2  # the tap on the right of the middle
    offset[:, 10], offset[:, 11] = 1, 0.5
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    out = deformable_conv2d(x, offset, mask, weight)
    assert out[0, 0, 2, 3] == 2 * 6 * (x[0, 0, 3, 4] + x[0, 0, 3, 5]) / 2


@pytest.mark.parametrize(("size", "spread"), [*itertools.product(SIZES, (0.7, 5.0, 200.0))])
def test_inference_follows_the_definition(size: int, spread: float) -> None:
    tensors = arguments(size, spread=spread)
    with torch.inference_mode():
        out = deformable_conv2d(*tensors)
    torch.testing.assert_close(out, deformable_conv2d_reference(*tensors), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.usefixtures("backend")
def test_any_padding(padding: int) -> None:
    x, _, _, weight, bias = arguments(3)
    grown = (11 + 2 * padding - 2, 7 + 2 * padding - 2)
    _, offset, mask, _, _ = arguments(3, grid=grown)
    tensors = (x, offset, mask, weight, bias)
    actual, expected = (
        gradients(lambda *a, function=function: function(*a, padding=padding), tensors)
        for function in (deformable_conv2d, deformable_conv2d_reference)
    )
    assert actual[0].shape == (2, 4, *grown)
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.usefixtures("backend", "tiny_pieces")
def test_training_follows_the_definition(size: int, masked: bool) -> None:
    x, offset, mask, weight, bias = arguments(size, grid=(9, 17))
    tensors = (x, offset, mask if masked else None, weight, bias)
    actual = gradients(deformable_conv2d, tensors)
    expected = gradients(deformable_conv2d_reference, tensors)
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("backend")
def test_large_enough_to_be_shared_by_threads(threads: int) -> None:
    tensors = arguments(7, grid=(24, 20), channels=3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = gradients(deformable_conv2d, tensors)
        torch.testing.assert_close(actual, gradients(deformable_conv2d, tensors), atol=0, rtol=0)
    finally:
        torch.set_num_threads(before)
    expected = gradients(deformable_conv2d_reference, tensors)
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.usefixtures("tiny_pieces")
def test_derivatives_in_float64(size: int) -> None:
    tensors = arguments(
        size,
        batch=2 if size == 1 else 1,
        grid=(6, 12) if size == 1 else (3, 2),
        channels=2,
        out_channels=1,
        spread=1.5,
        dtype=torch.float64,
    )
    leaves = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(deformable_conv2d, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("backend")
def test_half_precision_keeps_positions_exact(dtype: torch.dtype) -> None:
    x, offset, mask, weight, bias = arguments(3, grid=(4, 300), spread=0.3)
    # At column 290 bfloat16 counts in steps of two pixels: rounded positions would be far off.
    x = x.cumsum(3) / 30
    rounded = tuple(tensor.to(dtype) for tensor in (x, offset, mask, weight, bias))
    actual = gradients(deformable_conv2d, rounded)
    expected = gradients(deformable_conv2d_reference, tuple(t.float() for t in rounded))
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == dtype
        scale = wanted.abs().max()
        torch.testing.assert_close(got.float() / scale, wanted / scale, atol=0.02, rtol=0)


def test_autocast_computes_like_an_ordinary_convolution() -> None:
    tensors = arguments(3)
    expected = gradients(deformable_conv2d, tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = gradients(deformable_conv2d, tensors)
    assert actual[0].dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in actual[1:])
    for got, wanted in zip(actual, expected, strict=True):
        scale = wanted.abs().max()
        torch.testing.assert_close(got.float() / scale, wanted / scale, atol=0.02, rtol=0)


@pytest.mark.usefixtures("backend")
def test_offsets_that_are_not_finite_stay_in_their_pixel() -> None:
    x, offset, mask, weight, _ = arguments(3, grid=(6, 5))
    clean = deformable_conv2d(x, offset, mask, weight)
    offset[0, 4, 2, 3], offset[1, 7, 1, 1] = torch.nan, torch.inf
    out, *grads = gradients(deformable_conv2d, (x, offset, mask, weight))
    assert out[0, :, 2, 3].isnan().all()
    out[0, :, 2, 3] = clean[0, :, 2, 3]
    assert out.isfinite().all()
    out[1, :, 1, 1] = clean[1, :, 1, 1]
    torch.testing.assert_close(out, clean)
    assert [grad.shape for grad in grads] == [t.shape for t in (x, offset, mask, weight)]


@pytest.mark.usefixtures("backend")
def test_memory_formats_change_nothing() -> None:
    tensors = arguments(3)
    expected = gradients(deformable_conv2d, tensors)

    def channels_last(*leaves: Tensor) -> Tensor:
        *maps, bias = (leaf.contiguous(memory_format=_format(leaf)) for leaf in leaves)
        return deformable_conv2d(*maps, bias)

    def strided(*leaves: Tensor) -> Tensor:
        *maps, bias = leaves
        return deformable_conv2d(*(F.pad(leaf, (1, 2))[..., 1:-2] for leaf in maps), bias)

    for function in (channels_last, strided):
        actual = gradients(function, tensors)
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def test_shape_alone_on_the_meta_device() -> None:
    tensors = [tensor.to("meta").requires_grad_() for tensor in arguments(3)]
    out = deformable_conv2d(*tensors)
    assert out.is_meta
    assert out.shape == (2, 4, 11, 7)
    out.sum().backward()
    assert [t.grad.shape for t in tensors] == [t.shape for t in tensors]


@pytest.mark.usefixtures("backend")
def test_operators_that_pytorch_can_trace() -> None:
    assert broken_promises() == []


def test_compiles_without_a_break() -> None:
    tensors = arguments(3)
    compiled = torch.compile(deformable_conv2d, backend="aot_eager", fullgraph=True)
    actual = gradients(compiled, tensors)
    torch.testing.assert_close(actual, gradients(deformable_conv2d, tensors))


def test_exports_as_one_node() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
            return deformable_conv2d(x, offset, mask, weight)

    tensors = arguments(3)[:4]
    program = torch.export.export(Module(), tensors)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.birefnet.deformable_conv2d.default in calls
    torch.testing.assert_close(program.module()(*tensors), deformable_conv2d(*tensors))


@pytest.mark.usefixtures("backend")
def test_under_gradient_checkpointing() -> None:
    tensors = arguments(3)
    expected = gradients(deformable_conv2d, tensors)
    actual = gradients(lambda *a: checkpoint(deformable_conv2d, *a, use_reentrant=False), tensors)
    torch.testing.assert_close(actual, expected)


def test_only_some_gradients_asked_for() -> None:
    x, offset, mask, weight, bias = arguments(3)
    weight.requires_grad_()
    deformable_conv2d(x, offset, mask, weight, bias).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


def test_no_images() -> None:
    x, offset, mask, weight, bias = arguments(3)
    assert deformable_conv2d(x[:0], offset[:0], mask[:0], weight, bias).shape == (0, 4, 11, 7)


def wrong(name: str, value: Tensor) -> dict[str, Tensor | None]:
    x, offset, mask, weight, bias = arguments(3)
    return {"x": x, "offset": offset, "mask": mask, "weight": weight, "bias": bias, name: value}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (5, 11, 7), r"x of shape \[B, C, H, W\], got \[5, 11, 7\]"),
        ("x", (2, 6, 11, 7), "x with 6 channels and a weight for 5"),
        ("offset", (2, 9, 11, 7), r"offset of shape \[2, 18, 11, 7\], got \[2, 9, 11, 7\]"),
        ("offset", (2, 18, 11, 8), r"offset of shape \[2, 18, 11, 7\]"),
        ("mask", (1, 9, 11, 7), r"mask of shape \[2, 9, 11, 7\], got \[1, 9, 11, 7\]"),
        ("weight", (4, 5, 2, 2), "k odd"),
        ("weight", (4, 5, 3, 5), "k odd"),
        ("weight", (4, 5), "k odd"),
        ("bias", (5,), r"bias of shape \[4\], got \[5\]"),
    ],
)
def test_refuses_shapes_that_do_not_belong_together(name: str, shape: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deformable_conv2d(**wrong(name, torch.zeros(shape)))


def test_refuses_a_picture_smaller_than_the_kernel() -> None:
    x, offset, mask, weight, _ = arguments(3, grid=(2, 2))
    with pytest.raises(ValueError, match="smaller than the 3x3 kernel"):
        deformable_conv2d(x, offset, mask, weight, padding=0)
