"""Counts of parameters and multiplications."""

from __future__ import annotations

import pytest
import torch

from birefnet.network.build import build_network
from birefnet.network.macs import count_macs, count_parameters
from birefnet.network.simplify import simplify


def test_counts_follow_the_size() -> None:
    small = count_macs("tiny", (64, 64))
    assert small > 1e6
    assert count_macs("tiny", (128, 64)) == pytest.approx(2 * small, rel=0.02)


def test_a_network_counts_as_its_preset_and_stays_as_it_was() -> None:
    network = build_network("tiny").eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert count_macs(network, (64, 64)) == count_macs("tiny", (64, 64))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_simplification_computes_less() -> None:
    with torch.device("meta"):
        network = build_network("tiny").eval()
    full = count_macs(network, (64, 64))
    assert count_macs(simplify(network, inplace=True), (64, 64)) < full


@pytest.mark.parametrize(("name", "millions"), [("swin_v1_t", 39), ("pvt_v2_b0", 11)])
def test_parameters_are_the_paper_s(name: str, millions: int) -> None:
    """Table 7 leaves out the kernels of the deformable convolutions."""
    with torch.device("meta"):
        network = build_network(name)
    kernels = sum(p.numel() for key, p in network.named_parameters() if ".regular." in key)
    assert round((count_parameters(network) - kernels) / 1e6) == millions
