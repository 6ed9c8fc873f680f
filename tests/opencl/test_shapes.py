"""Models of open shapes and parameters: a part for each set that is met, compiled once, kept in one file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl import Runtime, compiler
from mace_cl import compile as compile_model
from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.errors import DamagedError, InputError, SealError
from mace_cl.program.format import read, write
from mace_cl.program.seal import keygen, sign
from mace_cl.runtime import compile as build
from support import Array, difference, reference
from tflite_models import Net

RNG = np.random.default_rng(5)
KEY = bytes(range(32))


def net(batch: int | str = "n", height: int | str = "h", width: int | str = "w") -> onnx.ModelProto:
    """Convolutions and a pool; of an image of any size."""
    weights = {"w": (8, 3, 3, 3), "b": (8,), "v": (4, 8, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m", "v"], ["y"]),
    ]
    constants = [numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32), k) for k, s in weights.items()]
    return made(nodes, [("x", TensorProto.FLOAT, [batch, 3, height, width])], ["y"], constants)


def repeated() -> onnx.ModelProto:
    """``k`` says how often each axis is repeated."""
    nodes = [helper.make_node("Tile", ["x", "k"], ["t"]), helper.make_node("Exp", ["t"], ["y"])]
    return made(nodes, [("x", TensorProto.FLOAT, ["n", 3]), ("k", TensorProto.INT64, [2])], ["y"], [])


def made(nodes: Any, inputs: Any, outputs: list[str], constants: Any) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(inputs[0][2])) for name in outputs]
    starts = [helper.make_tensor_value_info(*one) for one in inputs]
    graph = helper.make_graph(nodes, "open", starts, ends, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NET, BATCH, TILE = net(), net("n", 8, 8), repeated()


def image(*shape: int) -> dict[str, Array]:
    return {"x": RNG.standard_normal(shape).astype(np.float32)}


def check(runtime: Runtime, model: onnx.ModelProto, inputs: dict[str, Array]) -> None:
    for name, expected in reference(model, inputs).items():
        assert difference(runtime.run(inputs)[name], expected) <= 1e-5


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever kernels are compiled."""
    counts: list[int] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def compile_units(*args: Any) -> Any:
            counts.append(1)
            return real(*args)

        return compile_units

    count = counted(build.compile_units)
    for module in (compiler, build):
        monkeypatch.setattr(module, "compile_units", count)
    return counts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(NET, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


A, B, C = (1, 3, 8, 8), (2, 3, 8, 8), (1, 3, 12, 6)


def test_sizes_change(device: Device, path: Path, store: Path, compiled: list[int]) -> None:
    with Runtime(path, device=device) as runtime:
        assert not compiled
        assert [port.shape for port in runtime.inputs] == [None]
        with pytest.raises(
            InputError, match=r"inputs of the model are open: 'x' float32 \[\?, 3, \?, \?\].*--shape x="
        ):
            _ = runtime.outputs
        for number, shape in enumerate([A, B, A, C, B], 1):
            check(runtime, NET, image(*shape))
            assert runtime.decision.code == ("no-file" if number == 1 else runtime.decision.code)
            assert runtime.inputs[0].shape == shape
        assert len(compiled) == 3
        assert [str(bucket) for bucket in runtime.buckets] == ["x=1,3,8,8", "x=1,3,12,6", "x=2,3,8,8"]
    assert len(list(store.glob("*.bin"))) == 1
    with Runtime(path, device=device) as runtime:
        for shape in (C, A, B):
            check(runtime, NET, image(*shape))
            assert runtime.decision.code == "hit"
    assert len(compiled) == 3


def test_program_alone(device: Device, path: Path, compiled: list[int]) -> None:
    """A program serves all that it was compiled for, without the model; what it lacks it names."""
    program = path.with_name("net.bin")
    with Runtime(path, program=program, device=device) as runtime:
        for shape in (A, B):
            check(runtime, NET, image(*shape))
    path.unlink()
    with Runtime(program, device=device) as runtime:
        for shape in (B, A):
            check(runtime, NET, image(*shape))
        with pytest.raises(InputError, match=r"compiled for x=1,3,8,8; x=2,3,8,8, not for x=1,3,12,6\. Give the model"):
            runtime.run(image(*C))
        check(runtime, NET, image(*A))
    with Runtime(program.read_bytes(), device=device) as runtime:
        check(runtime, NET, image(*B))
    assert len(compiled) == 2
    assert [str(target.bucket) for target in read(program).targets] == ["x=1,3,8,8", "x=2,3,8,8"]


def test_batch_of_1_at_first(device: Device, compiled: list[int]) -> None:
    with Runtime(BATCH.SerializeToString(), device=device) as runtime:
        assert len(compiled) == 1
        assert runtime.outputs[0].shape == (1, 4, 4, 4)
        for batch in (3, 1):
            check(runtime, BATCH, image(batch, 3, 8, 8))
    assert len(compiled) == 2


def test_parameters(device: Device, compiled: list[int]) -> None:
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    inputs = [{"x": x, "k": np.array(k)} for k in ([2, 1], [1, 4], [2, 1])]
    for _ in range(2):
        with Runtime(TILE.SerializeToString(), device=device) as runtime:
            for one in inputs:
                check(runtime, TILE, one)
                assert all(place.on == "OpenCL" for place in runtime.where)
            assert [str(bucket) for bucket in runtime.buckets] == ["x=2,3 k=[1,4]", "x=2,3 k=[2,1]"]
    assert len(compiled) == 2


def test_the_least_recently_used_goes(
    device: Device, path: Path, store: Path, compiled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CL_BUCKETS", "2")
    with Runtime(path, device=device) as runtime:
        for shape in (A, B, A, C, A):
            check(runtime, NET, image(*shape))
        assert len(runtime.buckets) == 2
        assert len(compiled) == 3
    (program,) = store.glob("*.bin")
    assert {str(target.bucket) for target in read(program).targets} == {"x=1,3,8,8", "x=1,3,12,6"}
    with Runtime(path, device=device) as runtime:
        check(runtime, NET, image(*A))
        check(runtime, NET, image(*C))
    with Runtime(path, device=device) as runtime:  # used last is C, whatever the order in the file
        check(runtime, NET, image(*B))
    assert len(compiled) == 4
    assert {str(target.bucket) for target in read(program).targets} == {"x=1,3,12,6", "x=2,3,8,8"}


def test_without_a_store(device: Device, path: Path, store: Path, compiled: list[int]) -> None:
    with Runtime(path, device=device, store=False) as runtime:
        for shape in (A, B, A):
            check(runtime, NET, image(*shape))
    assert len(compiled) == 2
    assert not store.exists()


def test_unbaked(device: Device, path: Path, compiled: list[int]) -> None:
    """A program without weights takes those of each bucket from the store, or from the model."""
    onnx.save(BATCH, path)
    program = path.with_name("net.bin")
    compile_model(path, program, device=device)
    for _ in range(2):
        with Runtime(path, program=program, device=device) as runtime:
            for batch in (1, 2):
                check(runtime, BATCH, image(batch, 3, 8, 8))
    assert len(compiled) == 2


def run_both(source: Path, **settings: Any) -> None:
    with Runtime(source, **settings) as runtime:
        for shape in (A, B):
            runtime.run(image(*shape))


@pytest.fixture
def two(device: Device, path: Path) -> Path:
    """A program for shapes ``A`` and ``B``, as its maker hands it out."""
    program = path.with_name("net.bin")
    run_both(path, program=program, device=device, store=False)
    return program


@pytest.mark.parametrize("how", ["signed", "encrypted"])
def test_sealed(how: str, device: Device, path: Path, two: Path, store: Path, compiled: list[int]) -> None:
    """Every part of a maker's file is used, and the file stays as it is; a part for other shapes is kept beside it."""
    pair = keygen(path.with_name("key"))
    if how == "signed":
        sign(two, pair.private)
        settings: dict[str, Any] = {"trusted_keys": [pair.hex]}
    else:
        write(read(two), two, key=KEY)
        settings = {"key": KEY}
    before = two.read_bytes()
    compiled.clear()
    for _ in range(2):
        with Runtime(two, device=device, **settings) as runtime:
            for shape in (B, A):
                check(runtime, NET, image(*shape))
                assert runtime.decision.code == "hit"
    assert not compiled
    for _ in range(2):
        with Runtime(path, program=two, device=device, **settings) as runtime:
            for shape in (A, C, B):
                check(runtime, NET, image(*shape))
    assert len(compiled) == 1
    assert two.read_bytes() == before
    damaged = bytearray(before)
    damaged[len(damaged) // 2] ^= 1
    two.write_bytes(damaged)
    with pytest.raises((DamagedError, SealError)):
        run_both(two, device=device, **settings)
    two.write_bytes(before)
    with pytest.raises(SealError), Runtime(two, device=device, trusted_keys=[keygen(path.with_name("other")).hex]):
        pass


def test_same_gpu(device: Device, path: Path, two: Path, compiled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a driver's update each part is proven by itself, when its shapes come, and none is compiled."""
    program = read(two)
    old = replace(device.signature, driver="0.9")
    write(replace(program, targets=tuple(replace(target, signature=old) for target in program.targets)), two)
    monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
    compiled.clear()
    for expected in ("same-gpu", "hit"):
        with Runtime(path, program=two, device=device) as runtime:
            for shape in (A, B):
                check(runtime, NET, image(*shape))
                assert runtime.decision.code == expected
            assert len(compiled) == 0
    found = [(target.signature.driver, str(target.bucket)) for target in read(two).targets]
    assert sorted(found) == sorted(
        (driver, bucket) for driver in ("0.9", device.driver) for bucket in ("x=1,3,8,8", "x=2,3,8,8")
    )
    with Runtime(path, program=two, device=device) as runtime:
        check(runtime, NET, image(*C))
        assert len(compiled) == 1


def test_tensorflow_lite(device: Device, tmp_path: Path, compiled: list[int]) -> None:
    """Its sizes are open where the signature of an input says so."""
    path, net = tmp_path / "net.bin", Net()
    x = net.input("x", (1, 2, 2, 3), signature=(-1, 2, 2, 3))
    net.outputs.append(net.op("LOGISTIC", [x], net.tensor("y", (1, 2, 2, 3))))
    model = net.build()
    for _ in range(2):
        with Runtime(model, program=path, device=device) as runtime:
            for batch in (1, 4):
                inputs = image(batch, 2, 2, 3)
                assert difference(runtime.run(inputs)["y"], 1 / (1 + np.exp(-inputs["x"]))) <= 1e-6
        assert len(read(path).targets) == 2
        assert len(compiled) == 2
    with pytest.raises(InputError, match="'x' has shape"), Runtime(model, program=path, device=device) as runtime:
        runtime.run(image(1, 2, 3, 3))


def test_compile_for_parameters(device: Device, tmp_path: Path, compiled: list[int]) -> None:
    model, path = tmp_path / "tile.onnx", tmp_path / "tile.bin"
    onnx.save(TILE, model)
    words = ["compile", str(model), "-o", str(path), "--device", device.runtime, "--bake", "--quiet"]
    assert main(words) == 2
    assert main([*words, "--value", "k=2,3", "--shape", "x=2,3"]) == 0
    assert len(compiled) == 1
    with Runtime(path, device=device) as runtime:
        check(runtime, TILE, image(2, 3) | {"k": np.array([2, 3])})
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "compiled for the values of k, which are parameters of its ops; give each"),
        ({"k": [2, 2], "x": [1]}, "a value is given for 'x'; the inputs that are parameters of ops: 'k' int64"),
        ({"k": [2, 2, 2]}, "k can't be .2, 2, 2.; it is 'k' int64"),
        ({"k": [2, 1.5]}, "k can't be"),
        ({"k": ["many", "more"]}, "k can't be"),
    ],
)
def test_compile_for_other_parameters(values: Any, message: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        compile_model(TILE.SerializeToString(), tmp_path / "net.bin", device=device, values=values)
    assert not (tmp_path / "net.bin").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (image(1, 4, 8, 8), r"'x' has shape \[1, 4, 8, 8\], the model has 'x' float32 \[\?, 3, \?, \?\]"),
        (image(3, 8, 8), r"'x' has shape \[3, 8, 8\]"),
        ({"x": np.zeros(A)}, r"'x' is float64, the model has float32; convert it with \.astype"),
        (
            {"z": np.zeros(A, np.float32)},
            r"unknown inputs \['z'\]; missing inputs \['x'\]; the model takes 'x' float32",
        ),
    ],
)
def test_wrong_inputs(device: Device, path: Path, compiled: list[int], inputs: Any, message: str) -> None:
    with Runtime(path, device=device, store=False) as runtime:
        with pytest.raises(InputError, match=message):
            runtime.run(inputs)
        assert not compiled
        check(runtime, NET, image(*A))
    with pytest.raises(InputError, match="closed"):
        runtime.run(image(*A))


def test_fixed_up_front(device: Device, path: Path, compiled: list[int]) -> None:
    with Runtime(path, device=device, shapes={"x": A}) as runtime:
        assert (len(compiled), runtime.symbolic) == (1, ())
        check(runtime, NET, image(*A))
        with pytest.raises(InputError, match=r"has shape \[2, 3, 8, 8\], the model has \[1, 3, 8, 8\]"):
            runtime.run(image(*B))


def test_threads(device: Device, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CL_BUCKETS", "2")
    given = [image(*shape) for shape in (A, B, C)]
    expected = [reference(NET, one)["y"] for one in given]
    wrong: list[object] = []
    with Runtime(path, device=device) as runtime:

        def work(first: int) -> None:
            try:
                for turn in range(6):
                    number = (first + turn) % 3
                    got = runtime.run(given[number])["y"]
                    if difference(got, expected[number]) > 1e-5:
                        wrong.append(number)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_command_line(
    device: Device, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)

    def answer_of(*argv: object) -> Any:
        assert main([*map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def answer(*argv: str) -> Any:
        return answer_of(*argv, "--device", device.runtime)

    for code in ("no-file", "hit"):
        for shape in (A, B):
            np.save("x.npy", image(*shape)["x"])
            found = answer("run", "net.onnx", "--input", "x.npy", "-q")
            assert found["bucket"] == f"x={','.join(map(str, shape))}"
            assert found["decision"]["code"] == (code if shape == A or code == "hit" else "bucket-missing")
    why = answer("why", "net.onnx")
    assert [target["bucket"] for target in why["targets"]] == ["x=1,3,8,8", "x=2,3,8,8"]
    seen = answer_of("inspect", next((path.parent / "store").glob("*.bin")))
    assert [one["shape"] for one in seen["inputs"]] == [[None, 3, None, None]]
    assert [target["bucket"] for target in seen["targets"]] == ["x=1,3,8,8", "x=2,3,8,8"]
