"""On a card: Triton's kernels against the definition, and every path of the operators."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from birefnet.network.deform import choice, deformable_conv2d, deformable_conv2d_reference

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
# batch, channels, output channels, kernel, height, width, with a mask
SHAPES = [
    (2, 40, 72, 3, 33, 29, True),
    (1, 64, 256, 7, 40, 48, True),
    (2, 24, 16, 1, 20, 17, False),
]

# Few, for each compiles three kernels.
CASES = [
    (torch.float16, SHAPES[0], torch.contiguous_format),
    (torch.float16, SHAPES[1], torch.channels_last),
    (torch.float16, SHAPES[2], torch.channels_last),
    (torch.float32, SHAPES[0], torch.channels_last),
    (torch.float32, SHAPES[1], torch.contiguous_format),
    (torch.bfloat16, SHAPES[0], torch.channels_last),
]


def case(
    dtype: torch.dtype, shape: tuple[int, ...], memory: torch.memory_format
) -> dict[str, Tensor | None]:
    batch, channels, out_channels, size, height, width, masked = shape
    torch.manual_seed(0)

    def random(*sides: int) -> Tensor:
        return torch.randn(sides, device="cuda")

    taps = size**2
    # Positions that float32 holds exactly: at a pixel's edge the slope jumps.
    offset = (192 * random(batch, 2 * taps, height, width)).round() / 64 + 1 / 128
    return {
        "x": random(batch, channels, height, width).to(dtype, memory_format=memory),
        "offset": offset.contiguous(memory_format=memory),
        "mask": random(batch, taps, height, width).sigmoid() if masked else None,
        "weight": random(out_channels, channels, size, size).to(dtype) / channels**0.5,
    }


def results(operation: object, made: dict[str, Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients, in float64."""
    leaves = {
        key: None if value is None else value.detach().to(dtype).requires_grad_()
        for key, value in made.items()
    }
    if dtype != torch.float64:  # positions are float32 whatever the rest is
        for key in ("offset", "mask"):
            value = made[key]
            leaves[key] = None if value is None else value.detach().clone().requires_grad_()
    out = operation(**leaves)  # type: ignore[operator]
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape, device="cuda", dtype=torch.float64).to(out.dtype))
    grads = [leaf.grad for leaf in leaves.values() if leaf is not None]
    return [value.detach().double() for value in (out, *grads)]  # type: ignore[union-attr]


@pytest.mark.parametrize(("dtype", "shape", "memory"), CASES, ids=str)
def test_triton_gives_the_numbers_of_the_definition(
    dtype: torch.dtype, shape: tuple[int, ...], memory: torch.memory_format
) -> None:
    made = case(dtype, shape, memory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, offset = made["x"], made["offset"]
        for way in (choice.for_forward, choice.for_backward):
            assert way(x, offset).__name__ == "birefnet.network.deform.triton_kernels"  # type: ignore[arg-type]
        ours = results(deformable_conv2d, made, dtype)
    exact = results(deformable_conv2d_reference, made, torch.float64)
    for got, expected in zip(ours, exact, strict=True):
        assert float((got - expected).abs().max() / expected.abs().max()) < TOLERANCE[dtype]


@pytest.mark.parametrize(("dtype", "shape", "memory"), CASES, ids=str)
def test_operators_keep_what_they_promise(
    dtype: torch.dtype, shape: tuple[int, ...], memory: torch.memory_format
) -> None:
    made = case(dtype, shape, memory)
    for value in made.values():
        if value is not None:
            value.requires_grad_()
    inputs = (*made.values(), shape[3] // 2)
    torch.library.opcheck(
        torch.ops.birefnet.deformable_conv2d,
        inputs,
        test_utils=("test_schema", "test_faketensor"),
    )
    plain = [value.detach() if isinstance(value, Tensor) else value for value in inputs]
    batch, _, out_channels, _, height, width, _ = shape
    grad = torch.randn(batch, out_channels, height, width, device="cuda").to(dtype)
    torch.library.opcheck(
        torch.ops.birefnet.deformable_conv2d_backward,
        (grad, *plain),
        test_utils=("test_schema", "test_faketensor"),
    )


class Layer(nn.Module):
    """Deformable convolution behind a convolution that learns the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(8, 16, 3, padding=1)
        self.offset = nn.Conv2d(16, 18, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(16, 16, 3, 3) / 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return deformable_conv2d(x, self.offset(x), None, self.weight).square().mean()


def test_compiled_training_without_channels_last() -> None:
    torch.manual_seed(0)
    layer = Layer().cuda()
    x = torch.randn(2, 8, 24, 32, device="cuda")
    layer(x).backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    torch.compile(layer)(x).backward()
    for parameter, grad in zip(layer.parameters(), expected, strict=True):
        assert float((parameter.grad - grad).abs().max() / grad.abs().max()) < 5e-3


def test_another_size_of_picture_compiles_nothing() -> None:
    triton_kernels = pytest.importorskip("birefnet.network.deform.triton_kernels")
    made = case(torch.float16, SHAPES[0], torch.channels_last)
    weight = made["weight"]
    counts = []
    for height, width in ((16, 16), (17, 19), (32, 48), (1, 5), (33, 16)):
        x = torch.randn(1, 40, height, width, device="cuda", dtype=torch.float16)
        offset = torch.randn(1, 18, height, width, device="cuda")
        triton_kernels.forward(x, offset, None, weight, 1)
        counts.append(sum(len(c[0]) for c in triton_kernels._forward.device_caches.values()))
    assert counts[0] == counts[-1]


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_both_settings_of_float32_are_read(setting: str) -> None:
    """The newer one makes the older raise where it is read."""
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("a torch that knows allow_tf32 only")
    before = matmul.fp32_precision
    made = case(torch.float32, SHAPES[0], torch.contiguous_format)
    exact = deformable_conv2d_reference(**made)  # type: ignore[arg-type]
    try:
        matmul.fp32_precision = setting
        out = deformable_conv2d(**made)  # type: ignore[arg-type]
    finally:
        matmul.fp32_precision = before
    share = float((out - exact).abs().max() / exact.abs().max())
    assert share < (2e-5 if setting == "ieee" else 3e-3)
