"""Modulated deformable convolution, the operation at the heart of BiRefNet's decoder.

Every tap of the kernel samples the input at its own fractional position (a learnt offset) and is
scaled by its own weight (a learnt mask): Zhu et al., "Deformable ConvNets v2", CVPR 2019,
equation 1. Samples are bilinear and the image continues with zeros, so a position between -1 and
0 mixes the first row with zeros.

| module | what it holds |
|---|---|
| `op` | the operator for autograd, torch.compile and torch.export |
| `reference` | the definition, slow and plain |
| `choice` | which of the kernels below compute |
| `portable` | PyTorch's operators, for every device |
| `cpu_derivative`, `cpu_fused` | training and inference on a CPU |
| `triton_kernels` | CUDA |
"""

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    from birefnet.network.deform.op import deformable_conv2d
    from birefnet.network.deform.reference import deformable_conv2d_reference

__all__ = ["deformable_conv2d", "deformable_conv2d_reference"]
