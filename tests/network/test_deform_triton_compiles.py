"""Triton's kernels compile for the GPUs of the last years; no GPU is needed for that."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton")
CONSTANTS = {"size": 3, "has_mask": True, "precision": "ieee", "tile_in": 32}
HALF = {"x", "grad", "weight", "out"}
FLOATS = {"offset", "mask", "x_grad", "offset_grad", "mask_grad", "weight_grad"}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["_forward", "_backward_samples", "_backward_weight"])
@pytest.mark.parametrize(("capability", "dtype"), [(75, "fp16"), (80, "bf16"), (90, "fp16")])
def test_compiles(kernel: str, capability: int, dtype: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from birefnet.network.deform import triton_kernels

    function = getattr(triton_kernels, kernel)
    constants = CONSTANTS | {
        "tile_pixels": 32 if kernel == "_backward_samples" else 64,
        "tile_out": 256 if kernel == "_forward" else 64,
    }
    signature = {}
    for name in function.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in HALF | FLOATS:
            signature[name] = f"*{dtype}" if name in HALF else "*fp32"
        else:
            signature[name] = "i32"
    even = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(function.arg_names)
        if name not in constants and name not in (*triton_kernels._OF_PICTURES, "tiles_of_program")
    }
    made = triton.compile(
        ASTSource(function, signature, constexprs=constants, attrs=even),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 8 if kernel == "_forward" else 4, "num_stages": 2},
    )
    assert made.asm["cubin"]
    assert made.metadata.shared <= 65_536
    if capability >= 80:
        assert "mma" in made.asm["ptx"]  # tensor cores
