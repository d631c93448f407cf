"""Parameters and multiplications of the paper's backbones at 1024², beside its Table 7.

    python benchmarks/counts.py

Nothing is computed: networks run on shapes alone. "without kernels" leaves out the kernels of the
deformable convolutions, and their products, which the paper's counts do not have.
"""

from __future__ import annotations

import torch

from birefnet.network.build import build_network
from birefnet.network.macs import count_macs, count_parameters
from birefnet.network.simplify import simplify

SIZE = (1024, 1024)
# Zheng et al., CAAI AIR 2024, Table 7: parameters [M] and GMACs.
PAPER = {
    "swin_v1_l": (215, 1143),
    "swin_v1_b": (101, 561),
    "swin_v1_t": (39, 231),
    "pvt_v2_b2": (35, 195),
    "pvt_v2_b1": (23, 147),
    "pvt_v2_b0": (11, 89),
}
OTHERS = ("nano",)


def products_of_kernels(name: str, side: int = SIZE[0]) -> tuple[int, int]:
    """Parameters of all deformable kernels, and their multiplications at a size."""
    with torch.device("meta"):
        network = build_network(name)
    parameters = products = 0
    positions = (side // 32) ** 2  # of the deepest stage
    for key, kernel in network.named_parameters():
        if ".regular." in key:
            stage = int(key.split("stages.")[1][0]) if "stages." in key else 0
            parameters += kernel.numel()
            products += kernel.numel() * positions * 4**stage
    return parameters, products


def main() -> None:
    """Print the table."""
    print(
        "| network | parameters, M | without kernels | paper | GMACs | without kernels | paper "
        "| simplified, GMACs |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in (*PAPER, *OTHERS):
        with torch.device("meta"):
            network = build_network(name)
        parameters, macs = count_parameters(network), count_macs(network, SIZE)
        own, products = products_of_kernels(name)
        simpler = count_macs(simplify(network, inplace=True), SIZE)
        paper = PAPER.get(name, ("–", "–"))
        print(
            f"| {name} | {parameters / 1e6:.1f} | {(parameters - own) / 1e6:.1f} | {paper[0]} "
            f"| {macs / 1e9:.0f} | {(macs - products) / 1e9:.0f} | {paper[1]} "
            f"| {simpler / 1e9:.0f} |"
        )


if __name__ == "__main__":
    main()
