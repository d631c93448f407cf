"""Whether TensorRT takes an ONNX file: its operators against the parser's published table.

Source: docs/operators.md of https://github.com/onnx/onnx-tensorrt for TensorRT 10.15. DeformConv
came with the parser of TensorRT 10.1 (https://github.com/onnx/onnx-tensorrt/pull/975). TensorRT
itself does not run, so this finds only what it surely refuses.
"""

from __future__ import annotations

from pathlib import Path

from birefnet.errors import needs_extra

VERSION = "10.15"
# Of the table's supported operators those that networks of this kind can hold.
_TABLE = """
Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos CumSum DeformConv DepthToSpace DequantizeLinear Div Einsum Elu Equal Erf Exp
Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity If
InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
MatMul Max MaxPool Mean Min Mish Mod Mul Neg NonZero Not Or Pad PRelu Pow QuantizeLinear
RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
Sinh Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK
Transpose Unsqueeze Where
"""
SUPPORTED = frozenset(_TABLE.split())


def obstacles(path: Path) -> list[str]:
    """The reasons why TensorRT would refuse an ONNX file, a sentence each; empty is a good sign.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    with needs_extra("onnx", "reading an ONNX file"):
        import onnx
    graph = onnx.load(str(path), load_external_data=False).graph
    reasons = []
    unknown = sorted({node.op_type for node in graph.node} - SUPPORTED)
    if unknown:
        reasons.append(f"TensorRT {VERSION} has no {', '.join(unknown)}.")
    if any(node.domain not in ("", "ai.onnx") for node in graph.node):
        reasons.append("It holds operators that are not ONNX's own.")
    for node in graph.node:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Resize" and attributes.get("antialias"):
            reasons.append(
                "Its Resize is antialiased, which TensorRT lacks; export without "
                "--with-preprocessing."
            )
            break
    zeros = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in graph.initializer
        if one.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) and not one.dims
    }
    points = [
        zeros[node.input[2]]
        for node in graph.node
        if node.op_type == "QuantizeLinear" and len(node.input) > 2 and node.input[2] in zeros
    ]
    if any(point != 0 or point.dtype.kind == "u" for point in points):
        reasons.append(
            "Its eight bits have zero points, and TensorRT wants symmetric ones: let TensorRT "
            "quantise the fp32 file itself."
        )
    return reasons


def trtexec(path: Path, *, dynamic: bool, size: tuple[int, int], name: str) -> str:
    """The command that builds an engine of `path` in half precision.

    Args:
        path: the ONNX file.
        dynamic: whether height and width are free, for which a range is given.
        size: width and height that the engine is tuned for [px].
        name: of the graph's input.
    """
    width, height = size
    best = f"1x3x{height}x{width}"
    least, most = (f"1x3x{height}x{width}", f"4x3x{height}x{width}")
    if dynamic:
        least, most = "1x3x256x256", f"4x3x{max(height, 2048)}x{max(width, 2048)}"
    return (
        f"trtexec --onnx={path} --saveEngine={path.with_suffix('.engine')} --fp16 "
        f"--minShapes={name}:{least} --optShapes={name}:{best} --maxShapes={name}:{most}"
    )
