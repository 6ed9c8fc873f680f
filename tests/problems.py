"""A problem or two of each kernel family, small enough to read the rendered text of."""

from __future__ import annotations

from mace_cl.expr import Expr, Instruction
from mace_cl.kernels.attention import Attention
from mace_cl.kernels.channel_gather import ChannelGather
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.elementwise import Access, Elementwise
from mace_cl.kernels.epilogue import Epilogue
from mace_cl.kernels.gather import Gather
from mace_cl.kernels.instance_norm import InstanceNorm
from mace_cl.kernels.layer_norm import LayerNorm
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.matmul import MatMul
from mace_cl.kernels.pool import Pool2D
from mace_cl.kernels.reduce import Reduce
from mace_cl.kernels.reorder import Reorder
from mace_cl.kernels.resample import Axis, Resample
from mace_cl.kernels.softmax import Softmax
from mace_cl.kernels.windows import Window
from mace_cl.kernels.winograd import WinogradInput, WinogradOutput
from mace_cl.plan import Problem, Traits

__all__ = ["PROBLEMS", "TRAITS"]

TRAITS = Traits(cores=2, vector_registers=16, near_cache=1 << 20, is_cpu=True)

RELU = Epilogue(Expr.of("relu"))
GATED = Epilogue(Expr(2, (Instruction("sigmoid", (1,)), Instruction("mul", (0, 2)))), ("gate",))
RESIDUAL = Epilogue(Expr(2, (Instruction("add", (0, 1)), Instruction("relu", (2,)))), ("full",))

PROBLEMS: dict[str, Problem] = {
    "attention": Attention(
        4,
        1,
        2,
        6,
        5,
        3,
        2,
        0.5,
        (Access((0, 3, 6, 1)), Access((0, 15, 3, 1)), Access((0, 2, 4, 1), 20), Access((0, 12, 2, 1))),
    ),
    "attention_masked": Attention(
        4,
        1,
        2,
        3,
        5,
        3,
        2,
        0.5,
        (
            Access((0, 3, 6, 1)),
            Access((0, 15, 3, 1)),
            Access((0, 2, 4, 1), 20),
            Access((0, 0, 5, 1)),
            Access((0, 12, 2, 1)),
        ),
    ),
    "channel_gather": ChannelGather(4, 9, 2, (0, 1, 0, 1, 0, 1), (0, 0, 1, 1, 2, 2)),
    "conv2d_3x3": Conv2D(4, 1, (8, 8), Window((6, 6), (6, 6), (3, 3), pads=(1, 1)), epilogue=RESIDUAL),
    "conv2d_gather": Conv2D(
        4, 1, (5, 8), Window((3, 3), (3, 3), (1, 1)), epilogue=RELU, gather=((0, 0), (1, 0), (0, 4), (1, 1), (0, 5))
    ),
    "conv2d_rgb": Conv2D(
        4, 1, (3, 6), Window((9, 9), (4, 4), (3, 3), (2, 2)), layouts=("nchw", "blocked"), epilogue=RELU
    ),
    "conv2d_rows": Conv2D(4, 1, (12, 7), Window((1, 5), (1, 5), (1, 1)), layouts=("nhwc", "nhwc"), bias=False),
    "depthwise": DepthwiseConv2D(4, 1, 6, Window((5, 7), (5, 7), (3, 3), pads=(1, 1)), epilogue=RELU),
    "elementwise_broadcast": Elementwise(
        4, (3, 5), (Access((5, 1)), Access((1, 0)), Access((5, 1))), Expr(2, (Instruction("mul", (0, 1)),))
    ),
    "elementwise_masked": Elementwise(
        4, (1, 2, 3, 3, 4), (Access((72, 36, 12, 4, 1)),) * 2, Expr.of("exp"), mask=(2, 2)
    ),
    "elementwise_transpose": Elementwise(4, (4, 6), (Access((1, 4)), Access((6, 1)))),
    "gather": Gather(2, 5, 3, 4, "float32", "int64"),
    "map": Map(
        "where",
        (3, 5),
        (Operand("bool", Access((1, 0))), Operand("float16", Access((5, 1))), Operand("float32")),
        Operand("int64", Access((5, 1))),
        "r = a0 ? (long)a1 : (long)x2[i1];",
    ),
    "map_stores": Map("cast", (4,), (Operand("float64", Access((1,))),), Operand("bfloat16", Access((1,))), "r = a0;"),
    "instance_norm": InstanceNorm(4, 1, 6, 9, 1e-5, RELU),
    "layer_norm": LayerNorm(4, 3, 8, 1e-5),
    "layer_norm_unaligned": LayerNorm(4, 3, 7, 1e-5, shifted=False),
    "matmul": MatMul(4, (2,), ((12,), (0,)), (3, 4, 6), RELU),
    "matmul_narrow": MatMul(4, (), ((), ()), (2, 5, 3)),
    "pool2d_average": Pool2D(4, 1, 8, Window((6, 6), (3, 3), (3, 3), (2, 2), (1, 1)), "average", epilogue=GATED),
    "pool2d_max": Pool2D(4, 1, 8, Window((6, 6), (3, 3), (2, 2), (2, 2)), "max"),
    "reduce_blocked": Reduce(4, (2, 4), (36, 1), (9,), (4,), "mean", blocked=True, channels=6, epilogue=RELU),
    "reduce_rows": Reduce(4, (3,), (5,), (5,), (1,), "max"),
    "reorder_from_blocked": Reorder(4, 1, 6, 9, to_blocked=False),
    "reorder_to_blocked": Reorder(4, 1, 6, 9, to_blocked=True),
    "resample_linear": Resample(
        4,
        1,
        4,
        Axis(2, ((0, 1), (0, 1), (1, 1)), ((1.0, 0.0), (0.5, 0.5), (1.0, 0.0))),
        Axis(2, ((0,), (1,)), ((1.0,),) * 2),
    ),
    "resample_pad": Resample(
        4, 1, 4, Axis(2, ((-1,), (0,), (1,)), ((1.0,),) * 3), Axis(2, ((0,), (1,)), ((1.0,),) * 2), 2.5
    ),
    "softmax": Softmax(4, 3, 5, 1),
    "softmax_elements": Softmax(4, 3, 3, 1),
    "softmax_log": Softmax(4, 2, 5, 3, log=True),
    "winograd_input": WinogradInput(4, 2, 1, 4, (5, 5), (3, 3), (1, 1)),
    "winograd_output": WinogradOutput(4, 2, 1, 4, (5, 5), (3, 3), epilogue=RELU),
}
