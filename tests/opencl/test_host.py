"""What OpenCL lacks runs on the host, wherever it stands in the model, at the first start and at later ones."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_cl
from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.errors import BuildError, DamagedError, HostError, ProgramError, SealError, UnsupportedError
from mace_cl.program.format import open_program, read, write
from mace_cl.program.program import Program
from mace_cl.schedule import CPU, HostStep
from support import Start, difference, filled, reference


def parsed(text: str, opset: int = 21) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}')


def net() -> onnx.ModelProto:
    """Convolutions with an op of another domain between them, of which the file tells no shape."""
    values = {"w": (16, 3, 3, 3), "v": (8, 16, 3, 3), "b": (12,), "m": (8, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("BiasGelu", ["r", "b"], ["g"], "odd", domain="com.microsoft"),
        helper.make_node("Conv", ["g", "v"], ["d"], "conv2", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "m"], ["y"], "dense"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(filled(name, shape), name) for name, shape in values.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


NET = net()
X = {"x": filled("image", (1, 3, 12, 12))}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if wanted.dtype == object:
        return bool(np.array_equal(found, wanted))
    return found.dtype == wanted.dtype and difference(found, wanted) <= 1e-5


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "if": (
        "(float[3] x, bool c) => (float[3] y) { a = Relu(x) b = If(c) <then_branch = t () => (float[3] t1) "
        "{ t1 = Neg(a) }, else_branch = e () => (float[3] e1) { e1 = Exp(a) }> y = Sigmoid(b) }",
        {"x": filled("x", (3,)), "c": np.array(False)},
    ),
    "loop": (
        "(float[4,4] x, int64 n) => (float[4,4] y, float[k,4,4] z) { s = Tanh(x) t = Constant<value = bool {1}>() "
        "u, z = Loop(n, t, s) <body = b (int64 i, bool c, float[4,4] p) => (bool d, float[4,4] q, float[4,4] o) "
        "{ d = Identity(c) q = MatMul(p, x) o = Identity(q) }> y = Softmax(u) }",
        {"x": filled("x", (4, 4)), "n": np.array(3, np.int64)},
    ),
    "scan": (
        "(float[2] s, float[5,2] x) => (float[2] y, float[5,2] z) { a = Exp(x) t, u = Scan<num_scan_inputs = 1, body = "
        "b (float[2] p, float[2] q) => (float[2] r, float[2] o) { r = Add(p, q) o = Identity(r) }>(s, a) "
        "y = Log(t) z = Sqrt(u) }",
        {"s": np.zeros(2, np.float32), "x": filled("x", (5, 2))},
    ),
    "nonzero": (
        "(float[3,5] x) => (int64[2,n] y, float[3,5] z) { a = Relu(x) y = NonZero(a) z = Exp(a) }",
        {"x": filled("x", (3, 5))},
    ),
    "unique between kernels": (
        "(float[2,8] x) => (float[n] y, float[2,8] z) { a = Floor(x) y = Unique(a) z = Exp(a) }",
        {"x": filled("x", (2, 8)) * 3},
    ),
    "sequence": (
        "(float[6,3] x, int64[2] k) => (seq(float[n,3]) s, float[6,3] y) { a = Relu(x) s = SplitToSequence(a, k) "
        "b = ConcatFromSequence<axis = 0>(s) y = Exp(a) }",
        {"x": filled("x", (6, 3)), "k": np.array([2, 4], np.int64)},
    ),
    "sequence in": (
        "(seq(float[2,3]) s, float[2,3] x) => (seq(float[2,3]) t, float[2,3] y) { a = Exp(x) t = SequenceInsert(s, a) "
        "y = Neg(a) }",
        {"s": [filled("s", (2, 3))], "x": filled("x", (2, 3))},
    ),
    "strings": (
        "(string[3] w, float[3] x) => (string[n] y, float[3] z) { y = StringConcat(w, w) z = Exp(x) }",
        {"w": np.array(["on", "ö", "off"], object), "x": filled("x", (3,))},
    ),
    "two parts": (
        "(float[128,160] x) => (float[128,160] y) { n = Constant<value = int64 {2}>() t = Constant<value = bool {1}>() "
        "a = Loop(n, t, x) <body = b (int64 i, bool c, float[128,160] p) => (bool d, float[128,160] q) "
        "{ d = Identity(c) q = Tanh(p) }> e = Exp(a) f = Softmax(e) y = Loop(n, t, f) <body = b2 "
        "(int64 i2, bool c2, float[128,160] p2) => (bool d2, float[128,160] q2) { d2 = Identity(c2) q2 = Neg(p2) }> }",
        {"x": filled("x", (128, 160))},
    ),
    "an input that only the host reads, and one that nobody does": (
        "(float[2,3] x, float[3] w, int64[1] u) => (float[2,3] y) { a = Exp(x) y = Loop(, , a) <body = b "
        "(int64 i, bool c, float[2,3] p) => (bool d, float[2,3] q) "
        "{ d = Constant<value = bool {0}>() q = Mul(p, w) }> }",
        {"x": filled("x", (2, 3)), "w": filled("w", (3,)), "u": np.zeros(1, np.int64)},
    ),
    "nothing at all": (
        "(float[0,3] x, string[0] w) => (float[0,3] y, string[n] z) { a = Exp(x) b = Loop(, , a) <body = b "
        "(int64 i, bool c, float[0,3] p) => (bool d, float[0,3] q) { d = Constant<value = bool {0}>() q = Neg(p) }> "
        "y = Neg(b) z = StringConcat(w, w) }",
        {"x": np.zeros((0, 3), np.float32), "w": np.zeros(0, object)},
    ),
    "an output that is a constant": (
        "(float[2,3] x) => (float[2,3] y, int64[2] z, string[1] w) { y = Exp(x) z = Shape(x) "
        "w = Constant<value_strings = [\"so\"]>() }",
        {"x": filled("x", (2, 3))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, start: Start) -> None:
    text, inputs = CASES[name]
    model = parsed(text)
    onnx.checker.check_model(model)
    wanted = reference(model, inputs, "onnxruntime")
    with start(model) as executor:
        for _ in range(2):
            found = executor.run(inputs)
            assert found.keys() == wanted.keys()
            for output, value in wanted.items():
                assert same(found[output], value), output


def test_halves_pass_between(start: Start) -> None:
    """Tensors of halves lie as fp32 in the arena, and as halves on the host."""
    model = parsed(
        "(float16[3,4] x) => (float16[3,4] y) { a = Exp(x) b = Loop(, , a) <body = b (int64 i, bool c, float16[3,4] p) "
        "=> (bool d, float16[3,4] q) { d = Constant<value = bool {0}>() q = Mul(p, x) }> y = Neg(b) }"
    )
    x = {"x": filled("x", (3, 4)).astype(np.float16)}
    with start(model) as executor:
        (step,) = executor.schedule.hosts
        assert {port.dtype for port in (*step.inputs, *step.outputs)} == {"float16"}
        found = executor.run(x)["y"]
    assert found.dtype == np.float16
    assert difference(found, reference(model, x, "onnxruntime")["y"]) <= 2e-3


def test_output_buffers(start: Start) -> None:
    text, inputs = CASES["nonzero"]
    with start(parsed(text)) as executor:
        wanted = executor.run(inputs)
        z = np.empty((3, 5), np.float32)
        found = executor.run(inputs, {"z": z})
        assert found["z"] is z
        np.testing.assert_array_equal(found["y"], wanted["y"])


def test_an_input_that_is_an_output_is_no_alias(start: Start) -> None:
    model = parsed('(string[2] x) => (string[2] y) { y = StringNormalizer<case_change_action = "NONE">(x) }')
    model.graph.output.append(model.graph.input[0])
    x = np.array(["a", "b"], object)
    with start(model) as executor:
        found = executor.run({"x": x})["x"]
    assert found is not x
    assert list(found) == ["a", "b"]


def test_a_failure_on_the_host(start: Start) -> None:
    model = parsed(
        "(float[4] x, int64[1] k) => (float[n] y) { a = Exp(x) b = NonZero(a) c = Gather(b, k) y = Cast<to = 1>(c) }"
    )
    with start(model) as executor:
        with pytest.raises(HostError, match=r"NonZero\(b\).*failed: .*indices"):
            executor.run({"x": filled("x", (4,)), "k": np.array([7], np.int64)})
        # and the next run is as if nothing had been
        assert executor.run({"x": filled("x", (4,)), "k": np.zeros(1, np.int64)})["y"].shape == (1, 4)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def program(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A compiled program of `NET` with its weights inside."""
    path = tmp_path_factory.mktemp("program") / "net.bin"
    mace_cl.compile(NET.SerializeToString(), path, device=device, bake=True, store=False)
    return path.read_bytes()


@pytest.fixture
def file(program: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "net.bin"
    path.write_bytes(program)
    return path


def answers(runtime: Runtime) -> bool:
    return difference(runtime.run(X)["y"], reference(NET, X, "onnxruntime")["y"]) <= 1e-5


def with_steps(file: Path, **changes: Any) -> Program:
    """The program with its host step changed."""
    program = read(file.read_bytes())

    def changed(step: HostStep) -> HostStep:
        return replace(step, **changes)

    targets = [
        replace(target, schedule=replace(target.schedule, hosts=tuple(map(changed, target.schedule.hosts))))
        for target in program.targets
    ]
    return replace(program, targets=tuple(targets))


class TestProgram:
    def test_where(self, device: Device, file: Path, store: Path) -> None:
        with Runtime(file, device=device) as runtime:
            assert runtime.decision.code == "hit"
            assert answers(runtime)
            found = {place.node: (place.op, place.on, place.by, place.reason) for place in runtime.where}
        assert found["odd"] == ("com.microsoft::BiasGelu", "host", CPU, "mace-cl has no OpenCL kernel for this op")
        assert [name for name, place in found.items() if place[1] == "host"] == ["odd"]
        assert found["conv"][2] == "conv2d"
        assert found["flat"] == ("Flatten", "OpenCL", "", "")

    def test_golden_values_are_onnxruntimes(self, file: Path) -> None:
        (target,) = read(file.read_bytes()).targets
        assert dict(target.provenance)["oracle"].startswith("onnxruntime")
        assert [name for name, _ in target.golden] == ["y"]

    def test_the_same_bytes_each_time(self, file: Path, tmp_path: Path) -> None:
        write(read(file.read_bytes()), tmp_path / "again.bin")
        assert (tmp_path / "again.bin").read_bytes() == file.read_bytes()

    def test_weights_outside(self, device: Device, tmp_path: Path, store: Path) -> None:
        model, path = tmp_path / "net.onnx", tmp_path / "net.bin"
        onnx.save(NET, model)
        mace_cl.compile(model, path, device=device, store=False)
        with pytest.raises(ProgramError, match="holds no weights"):
            Runtime(path, device=device, store=False)
        with Runtime(model, program=path, device=device, store=False) as runtime:
            assert answers(runtime)

    def test_encrypted(self, device: Device, file: Path, tmp_path: Path) -> None:
        key, path = bytes(range(32)), tmp_path / "secret.bin"
        write(read(file.read_bytes()), path, key=key)
        assert b"BiasGelu" in file.read_bytes()
        opened = open_program(path, key)
        assert all(section.nonce for section in opened.manifest.sections if section.kind == 5)
        (step,) = opened.program.targets[0].schedule.hosts
        assert b"BiasGelu" in bytes(step.model)
        assert bytes(step.model) not in path.read_bytes()
        with pytest.raises(SealError):
            Runtime(path, device=device, store=False)

    def test_an_older_reader_refuses(self, file: Path) -> None:
        assert "host" in open_program(file).manifest.requires

    @pytest.mark.parametrize("model", [b"", b"no model", NET.SerializeToString()])
    def test_a_bad_sub_model(self, device: Device, file: Path, store: Path, model: bytes) -> None:
        write(with_steps(file, model=model), file)
        with pytest.raises((BuildError, HostError), match=r"part of the model that runs on the host \(odd\)"):
            Runtime(file, device=device, store=False)

    def test_a_bad_sub_model_is_made_anew_from_the_model(self, device: Device, file: Path, store: Path) -> None:
        write(with_steps(file, model=b"no model"), file)
        with Runtime(NET.SerializeToString(), program=file, device=device) as runtime:
            assert runtime.decision.action == "compile"
            assert answers(runtime)
        with Runtime(file, device=device) as runtime:
            assert runtime.decision.code == "hit"

    def test_a_sub_model_of_other_shapes(self, device: Device, file: Path, store: Path) -> None:
        (target,) = read(file.read_bytes()).targets
        (step,) = target.schedule.hosts
        other = onnx.load_model_from_string(bytes(step.model))
        del other.graph.node[:]
        other.graph.node.append(
            helper.make_node("Transpose", [other.graph.input[0].name], [other.graph.output[0].name])
        )
        del other.graph.output[0].type.tensor_type.shape.dim[:]
        write(with_steps(file, model=other.SerializeToString()), file)
        with pytest.raises((HostError, BuildError)):
            Runtime(file, device=device, store=False).run(X)

    def test_a_damaged_sub_model(self, device: Device, file: Path) -> None:
        opened = open_program(file)
        (section,) = [section for section in opened.manifest.sections if section.kind == 5]
        data = bytearray(file.read_bytes())
        data[section.offset + 8] ^= 1
        file.write_bytes(data)
        with pytest.raises(DamagedError, match=r"section \d+ \(host, \d+ bytes\) has the CRC32"):
            Runtime(file, device=device, store=False)


class TestPolicy:
    def test_no_fallback(self, device: Device) -> None:
        with pytest.raises(UnsupportedError, match=r"lacks 1 node of this model: odd \(com\.microsoft::BiasGelu\)"):
            Runtime(NET.SerializeToString(), device=device, store=False, fallback=False)

    def test_no_fallback_and_a_program_with_some(self, device: Device, file: Path) -> None:
        with pytest.raises(UnsupportedError, match=r"lacks 1 node of this model: odd"):
            Runtime(file, device=device, fallback=False)

    def test_another_policy_is_another_program(self, device: Device, file: Path, store: Path) -> None:
        source = NET.SerializeToString()
        with Runtime(source, program=file, device=device) as runtime:
            assert runtime.decision.code == "hit"
        with pytest.raises(UnsupportedError):
            Runtime(source, program=file, device=device, runtime="gpu")
        with Runtime(source, program=file, device=device, runtime="cpu") as runtime:
            assert runtime.decision.code == "other-options"
            assert {place.on for place in runtime.where} == {"host"}
            assert answers(runtime)
        with Runtime(file, device=device) as runtime:
            assert answers(runtime)

    def test_npu_needs_a_provider(self, device: Device) -> None:
        with pytest.raises(HostError, match="--runtime npu needs the name of a provider"):
            Runtime(NET.SerializeToString(), device=device, store=False, runtime="npu")

    def test_npu(self, device: Device) -> None:
        """The CPU's provider takes all; it is the only one that every ONNX Runtime has."""
        with Runtime(NET.SerializeToString(), device=device, store=False, runtime="npu", provider="cpu") as runtime:
            assert {place.reason for place in runtime.where} == {f"taken by {CPU}"}
            assert answers(runtime)

    def test_provider_that_is_not_there(self, device: Device) -> None:
        with pytest.raises(HostError, match="has no QNNExecutionProvider; it has"):
            Runtime(NET.SerializeToString(), device=device, store=False, provider="qnn")


NEEDED = r"onnxruntime is not installed.*odd \(com\.microsoft::BiasGelu\).*pip install"


class TestWithoutOnnxruntime:
    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else find(name))

    def test_model(self, device: Device) -> None:
        with pytest.raises(HostError, match=NEEDED):
            Runtime(NET.SerializeToString(), device=device, store=False)

    def test_program(self, device: Device, file: Path, store: Path) -> None:
        with pytest.raises(HostError, match=NEEDED):
            Runtime(file, device=device)


WARM = """
import json, sys
import numpy as np
from mace_cl import Runtime
runtime = Runtime(sys.argv[1], device=sys.argv[2])
assert runtime.decision.code == "hit", runtime.decision
runtime.run({"x": np.zeros((1, 3, 12, 12), np.float32)})
heavy = ("onnx", "onnx_ir", "onnxscript", "mace_cl.passes", "mace_cl.ops", "mace_cl.kernels", "mace_cl.lower",
         "mace_cl.placement", "mace_cl.compiler", "mace_cl.bind")
print(json.dumps([name for name in sys.modules if name in heavy or name.startswith(tuple(f"{one}." for one in heavy))]))
"""


def test_a_warm_start_imports_no_onnx(device: Device, file: Path, store: Path) -> None:
    Runtime(file, device=device).close()
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(file), device.runtime], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_random_numbers_have_no_golden_values(device: Device, store: Path) -> None:
    model = parsed("(float[64] x) => (float[64] y) { a = RandomNormalLike(x) b = Exp(x) y = Add(a, b) }")
    for code in ("no-file", "hit"):
        with Runtime(model.SerializeToString(), device=device) as runtime:
            assert runtime.decision.code == code
            assert runtime.run({"x": np.zeros(64, np.float32)})["y"].std() > 0.3


def test_golden_inputs_that_do_not_suit(device: Device, store: Path) -> None:
    """Positions from 0 to 15 are too many for some models: their programs are kept without golden values."""
    body = "a = Exp(x) b = NonZero(a) c = Gather<axis = 1>(b, k) d = Cast<to = 1>(c) y = ReduceSum(d)"
    text = f"(float[4] x, int64[8] k) => (float[n] y) {{ {body} }}"
    for code in ("no-file", "hit"):
        with Runtime(parsed(text).SerializeToString(), device=device) as runtime:
            assert runtime.decision.code == code
            assert runtime.run({"x": np.zeros(4, np.float32), "k": np.ones(8, np.int64)})["y"] == 8


class TestCommandLine:
    def run(self, *args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mace_cl", *map(str, args)], capture_output=True, text=True)

    def test_where(self, device: Device, file: Path, store: Path) -> None:
        done = self.run("run", file, "--where", "--json", "--device", device.runtime)
        assert done.returncode == 0, done.stderr
        found = {place["node"]: place for place in json.loads(done.stdout)["where"]}
        assert found["odd"]["on"] == "host"
        assert found["conv"] == {"node": "conv", "op": "Conv", "on": "OpenCL", "by": "conv2d", "reason": ""}

    def test_text(self, device: Device, file: Path, store: Path) -> None:
        done = self.run("run", file, "--where", "--device", device.runtime, "--random")
        assert "6 of 7 nodes on OpenCL, 1 on the host" in done.stdout
        assert "output y" in done.stdout

    def test_inspect(self, file: Path) -> None:
        done = self.run("inspect", file)
        assert "nodes on the host" in done.stdout
        (host,) = json.loads(self.run("inspect", file, "--json").stdout)["targets"][0]["hosts"]
        assert (host["nodes"], host["provider"]) == (["odd"], CPU)

    def test_no_fallback(self, device: Device, tmp_path: Path, store: Path) -> None:
        onnx.save(NET, tmp_path / "net.onnx")
        done = self.run("run", tmp_path / "net.onnx", "--random", "--no-fallback", "--device", device.runtime)
        assert done.returncode == 4
        assert "odd (com.microsoft::BiasGelu)" in done.stderr

    def test_text_and_sequences(self, device: Device, tmp_path: Path, store: Path) -> None:
        for name in ("strings", "sequence"):
            onnx.save(parsed(CASES[name][0]), tmp_path / f"{name}.onnx")
            inputs = {key: value.astype(str) if key == "w" else value for key, value in CASES[name][1].items()}
            np.savez(tmp_path / f"{name}.npz", allow_pickle=False, **inputs)
            done = self.run(
                "run", tmp_path / f"{name}.onnx", "--input", tmp_path / f"{name}.npz", "--device", device.runtime,
                "--output", tmp_path / f"{name}.out.npz",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "strings.out.npz") as found:
            assert list(found["y"]) == ["onon", "öö", "offoff"]
        with np.load(tmp_path / "sequence.out.npz") as found:
            assert found["s[1]"].shape == (4, 3)
