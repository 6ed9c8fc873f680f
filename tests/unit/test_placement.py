"""Which nodes run on the host, and how they are gathered into sub-graphs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mace_cl.device import Device
from mace_cl.errors import HostError, SettingsError, UnsupportedError
from mace_cl.frontends.onnx import load
from mace_cl.ops import LOWERINGS, Builder
from mace_cl.passes.pipeline import simplify, specialise
from mace_cl.passes.place import Host, levels
from mace_cl.placement import plan
from mace_cl.plan import HostCall, Layout, Plan
from mace_cl.runtime.host import provider_name, refusal, require
from mace_cl.schedule import CPU, HostStep, Kernel, Launch, Node, Port, Schedule, Slot, places
from mace_cl.settings import Settings
from support import case, model_of

NEWEST = onnx.defs.onnx_opset_version()
CHANGED = max(onnx.defs.get_schema(op, NEWEST).since_version for op in ("Exp", "If", "Softplus"))
DEVICE = Device(0, "none", "", "none", usable=True, reason="")


def nothing(model: bytes, constants: Mapping[str, object]) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    return {}


def planned(model: onnx.ModelProto, **options: object) -> Plan:
    arguments = {"provider": CPU, "inferred": nothing, **options}
    return plan(load(model.SerializeToString()), Layout(4, 128), **arguments)  # type: ignore[arg-type]


def hosts(found: Plan) -> list[HostCall]:
    return [call for call in found.calls if isinstance(call, HostCall)]


def reasons(found: Plan) -> dict[str, str]:
    return {node.name: node.reason for node in found.nodes if node.reason}


def parsed(text: str, opset: int = 21) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}')


class TestLevels:
    """Nodes of one kind and level run together: that must be possible, and there must be few."""

    def graph(self, edges: Sequence[Sequence[int]]) -> list[ir.Node]:
        nodes: list[ir.Node] = []
        for number, before in enumerate(edges):
            nodes.append(ir.node("Op", [nodes[other].outputs[0] for other in before], name=str(number)))
        return nodes

    @pytest.mark.parametrize(
        ("edges", "kinds", "expected"),
        [
            ([[], [0], [1]], "dhd", [0, 1, 2]),
            ([[], [0], [0], [1, 2]], "dhhd", [0, 1, 1, 2]),  # two of a diamond's arms
            ([[], [0], [0], [1, 2]], "dhdd", [0, 1, 0, 2]),  # one arm
            ([[], [0], [1], [0, 2]], "hdhh", [1, 2, 3, 3]),  # not together with the first: the device comes between
            ([[], [], [1]], "hdh", [1, 0, 1]),  # a host node that nothing precedes waits for the others
            ([[], [], []], "hhh", [0, 0, 0]),
        ],
    )
    def test_small(self, edges: Sequence[Sequence[int]], kinds: str, expected: list[int]) -> None:
        given = ["" if kind == "d" else CPU for kind in kinds]
        assert levels(self.graph(edges), given) == (expected if "d" in kinds else [1] * len(kinds))

    @pytest.mark.parametrize("seed", range(20))
    def test_any(self, seed: int) -> None:
        rng = random.Random(seed)
        edges = [rng.sample(range(n), min(n, rng.randrange(3))) for n in range(40)]
        kinds = [rng.choice(("", "", CPU, *(("NPU",) if seed % 2 else ()))) for _ in edges]
        found = levels(self.graph(edges), kinds)
        for node, before in enumerate(edges):
            for other in before:
                # along an edge the level stays only where the kind does: so groups are convex, and have an order
                assert found[other] < found[node] or (found[other] == found[node] and kinds[other] == kinds[node])
        assert len({(level, kind) for level, kind in zip(found, kinds, strict=True)}) == len(set(found))
        if seed % 2 == 0:
            turns: list[int] = []
            for node, before in enumerate(edges):
                least = max((turns[other] + (kinds[other] != kinds[node]) for other in before), default=0)
                turns.append(max(least, 1) if kinds[node] and not before else least)
            parts = {level for level, kind in zip(found, kinds, strict=True) if kind}
            assert len(parts) <= max(turns) // 2 + 1


DIAMOND = "(float[2,3] x) => (float[2,3] y) { a = Relu(x) b = Erf(a) c = Hardmax(a) y = Add(b, c) }"
BETWEEN = "(float[200,300] x) => (float[200,300] y) { a = Hardmax(x) b = Relu(a) c = Exp(b) y = Hardmax(c) }"


@pytest.fixture(autouse=True)
def no_hardmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a kernel for any op some day; these tests need ones without."""
    monkeypatch.delitem(LOWERINGS, ("", "Hardmax"), raising=False)

    def refuse(builder: Builder, node: ir.Node) -> None:
        raise builder.unsupported(node, "too odd")

    monkeypatch.setitem(LOWERINGS, ("", "LpNormalization"), refuse)


class TestGroups:
    def test_a_diamond_is_one_part(self) -> None:
        found = planned(parsed(DIAMOND))
        (call,) = hosts(found)
        assert reasons(found) == {"Hardmax(c)": "mace-cl has no OpenCL kernel for this op"}
        assert [port.name for port in call.inputs] == ["a"]
        assert [port.name for port in call.outputs] == ["c"]

    def test_two_parts_with_the_device_between(self) -> None:
        found = planned(parsed(BETWEEN))
        first, second = hosts(found)
        assert (first.node, second.node) == ("Hardmax(a)", "Hardmax(y)")
        assert [type(call).__name__ for call in found.calls] == ["HostCall", "KernelCall", "HostCall"]
        # what no kernel touches stays on the host
        assert first.inputs[0].region is None
        assert first.outputs[0].region is not None
        assert second.outputs[0].region is None

    def test_all_on_the_host(self) -> None:
        found = planned(parsed("(float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Exp(a) }"), everything=True)
        (call,) = hosts(found)
        assert call.node == "Relu(a) Exp(y)"
        assert not found.buffers
        assert reasons(found) == {"Relu(a)": "asked for", "Exp(y)": "asked for"}

    def test_little_between_two_parts_is_not_worth_the_way(self) -> None:
        little = BETWEEN.replace("200", "2")
        (call,) = hosts(planned(parsed(little)))
        assert call.node == "Hardmax(a) Relu(b) Exp(c) Hardmax(y)"
        assert reasons(planned(parsed(little)))["Relu(b)"] == "little, between nodes on the host"
        assert set(reasons(planned(parsed(little), absorb=False))) == {"Hardmax(a)", "Hardmax(y)"}
        # an input or output of its own makes it worth it
        assert len(hosts(planned(parsed(little.replace("Relu(a)", "Add(a, x)"))))) == 2
        assert len(hosts(planned(parsed(little.replace(" y)", " y, float[2,300] c)"))))) == 2

    def test_only_large_constants_lie_outside(self) -> None:
        large, small = np.ones((16, 17), np.float32), np.ones((17,), np.float32)
        one = case("c", "a = Add(x, l) b = Add(a, s) y = Hardmax(b)", x=(17,), l=large, s=small)
        found = planned(model_of(one), everything=True)
        (call,) = hosts(found)
        ((name, constant),) = call.constants
        assert constant.array.shape == (16, 17)
        inside = {tensor.name: tensor for tensor in onnx.load_model_from_string(call.model).graph.initializer}
        assert inside[name].data_location == onnx.TensorProto.EXTERNAL
        assert sorted(len(tensor.raw_data) for tensor in inside.values()) == [0, 68]

    def test_what_a_branch_takes_from_outside(self) -> None:
        found = planned(
            parsed(
                "(float[3] x, bool c) => (float[3] y) { a = Relu(x) k = Constant<value = float[3] {1., 2., 3.}>() "
                "b = If(c) <then_branch = t () => (float[3] t1) { t0 = Add(a, k) t1 = Neg(t0) }, "
                "else_branch = e () => (float[3] e1) { e1 = Exp(a) }> y = Sigmoid(b) }"
            )
        )
        (call,) = hosts(found)
        assert [port.name for port in call.inputs] == ["c", "a"]
        assert reasons(found) == {"If(b)": "control flow"}

    def test_shapes_that_hang_on_data(self) -> None:
        body = "a = Relu(x) b = NonZero(a) y = Mul(b, b) z = Exp(a)"
        found = planned(parsed(f"(float[2,3] x) => (int64[2,n] y, float[2,3] z) {{ {body} }}"))
        (call,) = hosts(found)
        assert call.node == "NonZero(b) Mul(y)"
        assert reasons(found)["Mul(y)"] == "the shape of 'b' is not known before a run"
        assert (found.outputs[0].shape, found.outputs[0].region) == (None, None)
        assert found.outputs[1].shape == (2, 3)

    def test_all_that_a_lowering_refuses_is_found_at_once(self) -> None:
        found = planned(
            parsed("(float[3] x) => (float[3] y, float[3] z) { a = LpNormalization(x) y = Relu(a) z = Hardmax(x) }")
        )
        assert reasons(found) == {
            "LpNormalization(a)": "too odd",
            "Hardmax(z)": "mace-cl has no OpenCL kernel for this op",
        }
        assert len(hosts(found)) == 1

    def test_copies_of_outputs_stay(self) -> None:
        found = planned(parsed("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }"))
        assert [port.name for port in found.outputs] == ["y", "z"]

    def test_names_without_white_space(self) -> None:
        model = parsed("(float[2,3] x) => (float[2,3] y) { a = Hardmax(x) b = Relu(a) y = Hardmax(b) }")
        for node, name in zip(model.graph.node, ("my node", "my node", ""), strict=True):
            node.name = name
        found = planned(model)
        assert [node.name for node in found.nodes] == ["my_node", "my_node_1", "Hardmax(y)"]
        assert [call.node for call in hosts(found)] == ["my_node my_node_1 Hardmax(y)"]

    def test_equal_models_give_equal_parts(self) -> None:
        model = parsed("(float[2,3] x) => (float[2,3] y) { a = Hardmax(x) b = Relu(a) y = Hardmax(b) }")
        one, other = planned(model), planned(model)
        assert [call.model for call in hosts(one)] == [call.model for call in hosts(other)]

    def test_taken_by_a_provider(self) -> None:
        def taken(model: bytes, constants: object) -> set[str]:
            return {node.name for node in onnx.load_model_from_string(model).graph.node if node.op_type == "Exp"}

        model = parsed("(float[2,3] x) => (float[2,3] y) { a = Relu(x) b = Exp(a) c = Hardmax(b) y = Exp(c) }")
        found = planned(model, provider="NPU", taken=taken)
        assert [(call.provider, call.node) for call in hosts(found)] == [
            ("NPU", "Exp(b)"), (CPU, "Hardmax(c)"), ("NPU", "Exp(y)"),
        ]  # fmt: skip
        assert reasons(found)["Exp(b)"] == "taken by NPU"

    def test_inferred_shapes(self) -> None:
        model = parsed("(float[2,3] x) => (float[2,3] y) { a = Relu(x) b = Odd(a) c = Exp(b) y = Neg(c) }")
        model.graph.node[1].domain = "com.example"
        model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
        unknown = planned(model)
        assert set(reasons(unknown)) == {"Odd(b)", "Exp(c)", "Neg(y)"}
        known = planned(model, inferred=lambda proto, constants: {"b": ("float32", (2, 3))})
        assert set(reasons(known)) == {"Odd(b)"}


@pytest.mark.parametrize(("opset", "expected"), [(13, 13), (21, 21), (NEWEST, max(21, CHANGED))])
def test_a_part_is_no_newer_than_its_ops(opset: int, expected: int) -> None:
    """So that an ONNX Runtime that does not know the model's opset runs what it has long known."""
    model = parsed("(bool c, float[2,3] x) => (float[2,3] y) { y = If(c) <"
                   "then_branch = yes () => (a) { a = Softplus(x) }, else_branch = no () => (b) { b = Exp(x) }> }",
                   opset)  # fmt: skip
    model.ir_version = onnx.IR_VERSION
    (call,) = hosts(planned(model))
    part = onnx.load_model_from_string(bytes(call.model))
    assert (part.opset_import[0].version, part.ir_version) == (expected, 10)


def test_what_an_int_can_not_index_is_the_hosts() -> None:
    found = planned(parsed("(uint8[70000,40000] x, int64[2] i) => (int32[2,40000] y) "
                           "{ a = Gather(x, i) b = Cast<to=6>(a) y = Abs(b) }"))  # fmt: skip
    assert reasons(found) == {"Gather(a)": "'x' takes 2800000000 elements; kernels count to 2147483647"}


def test_a_placed_model_keeps_the_rest() -> None:
    source = parsed("(float[2,3] x) => (float[2,3] y) { a = Hardmax(x) y = Relu(a) }")
    model = simplify(load(source.SerializeToString()))
    placed = specialise(model, {"Hardmax(a)": Host("why", CPU)})
    assert [node.op_type for node in placed.graph] == ["Host", "Elementwise"]


X, Y = Port("x", "float32", (64,), Slot("arena", 0, 256)), Port("y", "float32", (64,), Slot("arena", 1024, 256))
INSIDE = Port("h", "int64", None, None)
STEPS = (
    HostStep(0, CPU, b"one", (X,), (INSIDE,), (Port("w", "float32", (16,), Slot("constants", 0, 64)),), "a b"),
    HostStep(1, CPU, b"two", (INSIDE, Y), (Port("z", "string", (2,), None),), (), "d"),
)
SCHEDULE = Schedule(
    (X,),
    (Port("z", "string", (2,), None),),
    (Kernel("copy", "elementwise", "source", ()),),
    (Launch(0, (1, 1, 1), (1, 1, 1), (Slot("arena", 0, 256), Slot("arena", 1024, 256)), "c"),),
    2048,
    64,
    "",
    STEPS,
    (
        Node("a", "If", "control flow"),
        Node("b", "Loop", "control flow"),
        Node("c", "Relu"),
        Node("d", "Foo", "no kernel"),
    ),
)


def with_step(number: int, **changes: object) -> Schedule:
    steps = list(STEPS)
    steps[number] = replace(steps[number], **changes)  # type: ignore[arg-type]
    return replace(SCHEDULE, hosts=tuple(steps))


def test_a_right_schedule_passes() -> None:
    SCHEDULE.check()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (with_step(0, at=-1), r"host step 0 \(a b\): before launch -1"),
        (with_step(0, at=2), "before launch 2"),
        (with_step(1, at=2), "before launch 2, not within 0 and 1"),
        (with_step(0, at=1), None),
        (replace(SCHEDULE, hosts=STEPS[::-1]), "host step 0 .*: reads .'h'., which no step before it makes"),
        (replace(SCHEDULE, hosts=STEPS[:1]), "no host step makes the outputs .'z'."),
        (with_step(0, outputs=()), "host step 1 .*: reads .'h'."),
        (with_step(0, inputs=(replace(X, slot=Slot("arena", 1920, 256)),)), "outside its buffer of 2048"),
        (with_step(0, inputs=(replace(X, slot=Slot("constants", 0, 64)),)), "does not fit"),
        (with_step(0, inputs=(replace(X, shape=(65,)),)), "does not fit"),
        (with_step(0, inputs=(replace(X, shape=None),)), "does not fit"),
        (with_step(0, inputs=(replace(X, dtype="string"),)), "element type 'string' is not known"),
        (with_step(0, inputs=(replace(X, shape=(4,), slot=Slot("arena", 2, 16)),)), "does not fit"),
        (with_step(0, constants=(Port("w", "float32", (17,), Slot("constants", 0, 64)),)), "does not fit"),
        (with_step(0, constants=(Port("w", "float32", (17,), Slot("constants", 0, 68)),)), "outside its buffer of 64"),
        (with_step(0, constants=(Port("w", "float32", (17,), None),)), "the constant 'w' lies nowhere"),
        (with_step(0, constants=(X,)), "does not fit"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_does_not(schedule: Schedule, message: str | None) -> None:
    if message is None:
        schedule.check()
        return
    with pytest.raises(ValueError, match=message):
        schedule.check()


def test_places() -> None:
    found = [(place.node, place.op, place.on, place.by, place.reason) for place in places(SCHEDULE)]
    assert found == [
        ("a", "If", "host", CPU, "control flow"),
        ("b", "Loop", "host", CPU, "control flow"),
        ("c", "Relu", "OpenCL", "elementwise", ""),
        ("d", "Foo", "host", CPU, "no kernel"),
    ]


class TestRequirements:
    def test_refusal_names_all(self) -> None:
        error = refusal(SCHEDULE.nodes)
        assert isinstance(error, UnsupportedError)
        assert "lacks 3 nodes of this model: a (If): control flow; b (Loop): control flow; d (Foo)" in str(error)
        assert error.nodes == {"a": "control flow", "b": "control flow", "d": "no kernel"}

    def test_missing_onnxruntime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        require([])
        with pytest.raises(HostError, match=r"a \(If\): .*d \(Foo\): no kernel.*pip install 'mace-cl\[ort\]'"):
            require([CPU], SCHEDULE.nodes)

    def test_missing_provider(self) -> None:
        with pytest.raises(HostError, match=r"has no QNNExecutionProvider; it has .*CPUExecutionProvider"):
            require([CPU, "QNNExecutionProvider"])

    @pytest.mark.parametrize(
        ("text", "name"), [(None, CPU), ("cpu", CPU), ("CPU", CPU), ("nnapi", "NnapiExecutionProvider"), (CPU, CPU)]
    )
    def test_names_of_providers(self, text: str | None, name: str) -> None:
        assert provider_name(text) == name

    def test_unknown_provider(self) -> None:
        with pytest.raises(HostError, match=r"knows no provider 'hexagon'; it knows .*qnn"):
            provider_name("hexagon")

    def test_unknown_runtime(self) -> None:
        with pytest.raises(SettingsError, match=r"'dsp', but must be one of gpu\+cpu, gpu, cpu, npu"):
            Settings.load(runtime="dsp")
