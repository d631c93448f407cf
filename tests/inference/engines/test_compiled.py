"""Compiled blocks compute the same, and another size compiles next to nothing anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from birefnet.errors import DeviceError
from birefnet.inference.engines.compiled import compile_regions
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.backbones import swin
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS
from birefnet.network.cpu_optimised import cpu_optimised
from birefnet.network.simplify import simplify


@pytest.mark.parametrize("backbone", ["swin_v1_t", "pvt_v2_b0"])
@pytest.mark.slow
def test_sizes_share_what_was_compiled(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swin, "on_cpu", lambda x: False)  # there blocks run in place, uncompiled
    torch.manual_seed(0)
    network = cpu_optimised(
        simplify(build_network(replace(PRESETS["tiny"], backbone=backbone)).eval())
    )
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    batches = [torch.randn(1, 3, *size) for size in ((64, 96), (96, 128), (160, 96), (128, 192))]
    with torch.inference_mode():
        expected = [network(batch) for batch in batches]
        torch._dynamo.reset()
        assert compile_regions(network, backend=count) > 4
        found = [(network(batch), len(graphs)) for batch in batches]
    for (logits, _), right in zip(found, expected, strict=True):
        torch.testing.assert_close(logits, right, atol=1e-4, rtol=1e-4)
    counts = [count for _, count in found]
    # The second size frees the sizes; later ones may still meet a case anew, such as no padding.
    assert counts[3] - counts[2] <= 2 < counts[0]


def test_graphs_need_cuda() -> None:
    with pytest.raises(DeviceError, match="CUDA graphs were asked for"):
        TorchEngine(build_network("tiny"), "cpu", graphs=True)
