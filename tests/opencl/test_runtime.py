"""`mace_cl.Runtime` on a real device: what it takes, what it decides, what it survives."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import mace_cl
from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.device.signature import Signature
from mace_cl.errors import DamagedError, InputError, ModelError, ProgramError, UnsupportedError
from mace_cl.program.format import read, write
from mace_cl.program.program import Program, Target
from support import Array, Case, case, difference, filled, model_of

NET = case(
    "net", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) f = Flatten(r) y = Gemm(f, k, l) y1 = Exp(x1)",
    x=(1, 5, 4, 4), x1=(2, 3), w=(8, 5, 3, 3), b=(8,), k=(128, 7), l=(7,),
)  # fmt: skip
MODEL = model_of(NET).SerializeToString()
OTHER = model_of(case("other", "y = Neg(x)", x=(2, 3))).SerializeToString()
X = NET.inputs


def check(runtime: Runtime, one: Case = NET) -> None:
    for name, expected in one.expected.items():
        assert difference(runtime.run(one.inputs)[name], expected) <= 1e-5


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of compiled programs that only this test uses."""
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(MODEL)
    return path


@pytest.fixture(scope="module")
def runtime(device: Device) -> Runtime:
    return Runtime(MODEL, device=device)


@pytest.fixture(scope="module")
def program(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A compiled program with its weights inside."""
    path = tmp_path_factory.mktemp("program") / "net.bin"
    source = path.with_name("net.onnx")
    source.write_bytes(MODEL)
    mace_cl.compile(source, path, device=device, bake=True, store=False)
    return path.read_bytes()


def altered(program: bytes, path: Path, change: Callable[[Program], Program]) -> Path:
    """A file of ``program`` after ``change``, with right checksums."""
    write(change(read(program)), path)
    return path


def with_target(change: Callable[[Target], Target]) -> Callable[[Program], Program]:
    return lambda program: replace(program, targets=tuple(change(target) for target in program.targets))


def signed(**values: str) -> Callable[[Program], Program]:
    def change(target: Target) -> Target:
        signature: Signature = replace(target.signature, **values)  # type: ignore[arg-type]
        return replace(target, signature=signature)

    return with_target(change)


class TestRun:
    def test_outputs(self, runtime: Runtime) -> None:
        check(runtime)
        assert [port.name for port in runtime.inputs] == ["x", "x1"]
        assert {port.name: port.shape for port in runtime.outputs} == {"y": (1, 7), "y1": (2, 3)}

    def test_again_with_other_inputs(self, runtime: Runtime) -> None:
        one = runtime.run(X)
        runtime.run({"x": X["x"] * 2, "x1": X["x1"] * 2})
        for name, array in runtime.run(X).items():
            np.testing.assert_array_equal(array, one[name])

    def test_output_buffers(self, runtime: Runtime) -> None:
        y = np.full((1, 7), 9, np.float32)
        got = runtime.run(X, {"y": y})
        assert got["y"] is y
        assert difference(y, NET.expected["y"]) <= 1e-5
        assert got["y1"].shape == (2, 3)

    def test_a_list_is_no_float32(self, runtime: Runtime) -> None:
        with pytest.raises(InputError, match=r"'x1' is float64, the model has float32; convert it with \.astype"):
            runtime.run({**X, "x1": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"x": X["x"]}, r"missing inputs \['x1'\]; the model takes 'x' float32 \[1, 5, 4, 4\]"),
            ({**X, "z": X["x"]}, r"unknown inputs \['z'\]"),
            ({"X": X["x"], "x1": X["x1"]}, r"unknown inputs \['X'\]; missing inputs \['x'\]"),
            ({**X, "x": X["x"].astype(np.float64)}, "'x' is float64, the model has float32"),
            ({**X, "x": X["x"].astype(np.float16)}, "'x' is float16"),
            ({**X, "x": X["x"][0]}, r"'x' has shape \[5, 4, 4\], the model has \[1, 5, 4, 4\]"),
            ({**X, "x": X["x"][:, :4]}, r"'x' has shape \[1, 4, 4, 4\]"),
            ({**X, "x": X["x"].transpose(0, 2, 3, 1)}, r"'x' has shape \[1, 4, 4, 5\]"),
        ],
    )
    def test_wrong_input(self, runtime: Runtime, data: dict[str, Array], message: str) -> None:
        with pytest.raises(InputError, match=message):
            runtime.run(data)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"z": np.empty((1, 7), np.float32)}, r"unknown outputs \['z'\]; the model gives 'y' float32 \[1, 7\]"),
            ({"y": np.empty((1, 7), np.float64)}, "output buffer 'y' is float64"),
            ({"y": np.empty((7,), np.float32)}, r"output buffer 'y' has shape \[7\]"),
            ({"y": np.empty((1, 14), np.float32)[:, ::2]}, "'y' must be a writeable, C-contiguous array"),
            ({"y": np.frombuffer(bytes(28), np.float32).reshape(1, 7)}, "'y' must be a writeable"),
        ],
    )
    def test_wrong_output_buffer(self, runtime: Runtime, data: dict[str, Array], message: str) -> None:
        with pytest.raises(InputError, match=message):
            runtime.run(X, data)

    def test_any_memory_order(self, runtime: Runtime) -> None:
        strided = np.zeros((1, 5, 4, 8), np.float32)[..., ::2]
        strided[:] = X["x"]
        for x in (strided, np.asfortranarray(X["x"])):
            assert not x.flags.c_contiguous
            assert difference(runtime.run({**X, "x": x})["y"], NET.expected["y"]) <= 1e-5

    def test_nan_propagates(self, runtime: Runtime) -> None:
        x = X["x"].copy()
        x[0, 2, 1, 1] = np.nan
        got = runtime.run({**X, "x": x})
        assert np.isnan(got["y"]).all()
        assert difference(got["y1"], NET.expected["y1"]) <= 1e-5
        check(runtime)

    def test_nan_propagates_through_pools_and_activations(self, device: Device) -> None:
        one = case(
            "nan", "y = MaxPool<kernel_shape=[2,2]>(x) y1 = GlobalMaxPool(x) y2 = ReduceMin(x) y3 = Softmax(x) "
            "y4 = Clip(x, l, h) y5 = LeakyRelu(x) y6 = Max(x, l) y7 = GlobalAveragePool(x)",
            x=(1, 2, 3, 3), l=np.float32(-1), h=np.float32(1),
        )  # fmt: skip
        x = one.inputs["x"].copy()
        x[0, 0, 1, 1] = np.nan
        with Runtime(model_of(one).SerializeToString(), device=device, store=False) as runtime:
            got = runtime.run({"x": x})
        assert np.isnan(got["y"][0, 0]).all()
        assert not np.isnan(got["y"][0, 1]).any()
        assert np.isnan(got["y1"]).ravel().tolist() == [True, False]
        assert np.isnan(got["y2"]).all()
        assert np.isnan(got["y3"]).sum() == 3
        for name in ("y4", "y5", "y6"):
            assert np.isnan(got[name]).sum() == 1
        assert np.isnan(got["y7"]).ravel().tolist() == [True, False]

    def test_threads(self, runtime: Runtime) -> None:
        wrong: list[float] = []

        def work(number: int) -> None:
            scale = np.float32(1 + number)
            for _ in range(20):
                got = runtime.run({"x": X["x"] * scale, "x1": X["x1"]})["y1" if number % 2 else "y"]
                again = runtime.run({"x": X["x"] * scale, "x1": X["x1"]})["y1" if number % 2 else "y"]
                if not np.array_equal(got, again):
                    wrong.append(number)
            expected = NET.expected["y1"] if number % 2 else expected_y[number]
            wrong.extend([number] if difference(got, expected) > 1e-5 else [])

        expected_y = {number: runtime.run({**X, "x": X["x"] * np.float32(1 + number)})["y"] for number in range(8)}
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_two_in_one_process(self, runtime: Runtime, device: Device) -> None:
        with Runtime(MODEL, device=device) as second, Runtime(OTHER, device=device) as third:
            x = filled("third", (2, 3))
            for _ in range(3):
                check(runtime)
                check(second)
                np.testing.assert_array_equal(third.run({"x": x})["y"], -x)
        check(runtime)

    def test_closing(self, device: Device) -> None:
        with Runtime(MODEL, device=device) as runtime:
            check(runtime)
            runtime.close()
        runtime.close()
        with pytest.raises(InputError, match="closed"):
            runtime.run(X)

    @pytest.mark.parametrize("body", ["y = Identity(x)", "y = Reshape(x, s)"])
    def test_nothing_to_launch(self, device: Device, body: str, store: Path) -> None:
        one = case("views", body, x=(2, 3), s=[2, 3])
        for code in ("no-file", "hit"):
            with Runtime(model_of(one).SerializeToString(), device=device) as runtime:
                assert runtime.decision.code == code
                check(runtime, one)

    def test_symbolic_shapes(self, device: Device) -> None:
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Softmax", ["x"], ["y"])], "g",
            [value("x", 1, ["batch", "width"])], [value("y", 1, ["batch", "width"])],
        )  # fmt: skip
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()
        with Runtime(model, device=device, store=False) as runtime:
            with pytest.raises(InputError, match=r"'x' float32 \[\?, \?\]; run it first, or give shapes"):
                _ = runtime.schedule
            assert runtime.run({"x": np.zeros((4, 5), np.float32)})["y"].shape == (4, 5)
        for batch in (2, 3):
            with Runtime(model, device=device, shapes={"x": (batch, 5)}) as runtime:
                assert runtime.decision.code == "no-file"
                assert runtime.run({"x": np.zeros((batch, 5), np.float32)})["y"].shape == (batch, 5)
        with Runtime(model, device=device, shapes={"x": (2, 5)}) as runtime:
            assert runtime.decision.code == "hit"


class TestSources:
    def test_path_and_store(self, device: Device, model: Path, store: Path) -> None:
        for code in ("no-file", "hit"):
            with Runtime(str(model), device=device) as runtime:
                assert runtime.decision.code == code
                check(runtime)
        files = [path for path in store.iterdir() if path.suffix == ".bin"]
        assert len(files) == 1

    def test_a_model_named_as_the_program_is_refused_and_stays(
        self, device: Device, model: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other.onnx"
        other.write_bytes(MODEL)
        with pytest.raises(InputError, match="looks like a model"):
            Runtime(model, program=other, device=device)
        with pytest.raises(InputError, match="looks like a model"):
            mace_cl.compile(model, other, device=device)
        assert other.read_bytes() == MODEL
        assert [path.name for path in tmp_path.glob("other*")] == ["other.onnx"]

    def test_bytes_and_path_share_a_program(self, device: Device, model: Path, store: Path) -> None:
        Runtime(model, device=device).close()
        with Runtime(MODEL, device=device) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)

    def test_program_path_and_bytes(self, device: Device, program: bytes, tmp_path: Path, store: Path) -> None:
        path = tmp_path / "net.bin"
        path.write_bytes(program)
        for source in (path, program):
            with Runtime(source, device=device) as runtime:
                assert runtime.decision.code == "hit"
                check(runtime)
        assert not list(store.glob("*.bin"))

    def test_program_argument(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        path = tmp_path / "kept" / "net.bin"
        path.parent.mkdir()
        for code in ("no-file", "hit"):
            with Runtime(model, program=path, device=device) as runtime:
                assert runtime.decision.code == code
                check(runtime)
        assert os.listdir(path.parent) == ["net.bin"]
        with Runtime(path, device=device) as runtime:
            check(runtime)

    def test_without_store(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        with Runtime(model, device=device, store=False) as runtime:
            assert runtime.decision.code == "no-file"
            check(runtime)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx"]

    def test_program_argument_without_store(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        for code in ("no-file", "hit"):
            with Runtime(model, program=tmp_path / "net.bin", device=device, store=False) as runtime:
                assert runtime.decision.code == code
        assert not store.exists()

    def test_program_takes_no_options(self, device: Device, program: bytes, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="go with a model"):
            Runtime(program, program=tmp_path / "other.bin", device=device)
        with pytest.raises(InputError, match="go with a model"):
            Runtime(program, shapes={"x": (1,)}, device=device)

    def test_compile_takes_no_program(self, device: Device, program: bytes, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a compiled program, not a model"):
            mace_cl.compile(program, tmp_path / "out.bin", device=device)

    @pytest.mark.parametrize(
        ("source", "error", "message"),
        [
            (b"", ModelError, "not a model of a format"),
            (b"hello, world", ModelError, "not a model of a format"),
            (MODEL[: len(MODEL) // 2], ModelError, "truncated"),
            (7, InputError, "a model is a path or bytes, not int"),
            ("/nowhere/net.onnx", InputError, "no such file"),
            (os.path.dirname(__file__), InputError, "is a directory"),
        ],
    )
    def test_bad_source(self, device: Device, source: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Runtime(source, device=device, store=False)  # type: ignore[arg-type]

    def test_unsupported_op(self, device: Device) -> None:
        model = model_of(case("det", "y = Det(x)", x=(3, 3)))
        with pytest.raises(UnsupportedError, match=r"det\.0 \(Det\): mace-cl has no OpenCL kernel"):
            Runtime(model.SerializeToString(), device=device, store=False, fallback=False)


class TestDecisions:
    """What is found at ``program``, the code that it gets, and that the answer is right whatever it was."""

    def start(self, device: Device, path: Path, code: str) -> None:
        with Runtime(MODEL, program=path, device=device) as runtime:
            assert runtime.decision.code == code
            check(runtime)
        with Runtime(MODEL, program=path, device=device) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)

    @pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 0.99])
    def test_damaged(
        self, device: Device, program: bytes, tmp_path: Path, place: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "net.bin"
        data = bytearray(program)
        data[int(len(data) * place) + 40] ^= 0x10
        path.write_bytes(data)
        with caplog.at_level(logging.WARNING, logger="mace_cl"):
            self.start(device, path, "damaged")
        assert (tmp_path / "net.bin.damaged-1").read_bytes() == data
        assert "It is kept as" in caplog.text

    def test_truncated(self, device: Device, program: bytes, tmp_path: Path) -> None:
        path = tmp_path / "net.bin"
        path.write_bytes(program[: len(program) // 3])
        self.start(device, path, "damaged")

    @pytest.mark.parametrize("content", [b"", b"# notes\n", b"PK\x03\x04 and so on"])
    def test_something_else(self, device: Device, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "net.bin"
        path.write_bytes(content)
        with Runtime(MODEL, program=path, device=device) as runtime:
            assert runtime.decision.code in ("damaged", "not-a-program")
            check(runtime)
        assert (tmp_path / "net.bin.damaged-1").read_bytes() == content

    def test_a_model_is_no_program(self, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "net.onnx"
        path.write_bytes(MODEL)
        with pytest.raises(InputError, match=r"net\.onnx"):
            Runtime(MODEL, program=path, device=device)
        assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
        assert path.read_bytes() == MODEL

    def test_other_model(self, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "net.bin"
        Runtime(OTHER, program=path, device=device).close()
        self.start(device, path, "other-model")

    def test_other_options(self, device: Device, program: bytes, tmp_path: Path) -> None:
        path = altered(program, tmp_path / "net.bin", lambda found: replace(found, options=(("shape.x", "1,5,4,4"),)))
        self.start(device, path, "other-options")

    def test_engine_changed(self, device: Device, program: bytes, tmp_path: Path) -> None:
        path = altered(program, tmp_path / "net.bin", lambda found: replace(found, engine="0" * 32))
        self.start(device, path, "engine-changed")

    def test_driver_changed(self, device: Device, program: bytes, tmp_path: Path) -> None:
        path = altered(program, tmp_path / "net.bin", signed(driver="0.0"))
        self.start(device, path, "driver-changed")

    def test_other_device(self, device: Device, program: bytes, tmp_path: Path) -> None:
        path = altered(program, tmp_path / "net.bin", signed(device="Some GPU", vendor="Someone"))
        self.start(device, path, "device-missing")

    def test_refused_by_the_driver(self, device: Device, program: bytes, tmp_path: Path) -> None:
        if device.runtime.startswith("pocl"):
            pytest.skip("PoCL ends the process where other drivers refuse a binary")

        def spoil(target: Target) -> Target:
            return replace(target, units=tuple(replace(unit, binary=b"not code") for unit in target.units))

        path = altered(program, tmp_path / "net.bin", with_target(spoil))
        self.start(device, path, "driver-refused")

    def test_damaged_in_the_store(self, device: Device, store: Path) -> None:
        Runtime(MODEL, device=device).close()
        (path,) = store.glob("*.bin")
        data = bytearray(path.read_bytes())
        data[-5000] ^= 1
        path.write_bytes(data)
        for code in ("damaged", "hit"):
            with Runtime(MODEL, device=device) as runtime:
                assert runtime.decision.code == code
                check(runtime)
        assert [found.read_bytes() for found in store.glob("*.damaged-1")] == [data]


class TestProgramAlone:
    def test_damaged(self, device: Device, program: bytes, tmp_path: Path) -> None:
        data = bytearray(program)
        data[len(data) // 2] ^= 1
        for source in (bytes(data), tmp_path / "net.bin"):
            (tmp_path / "net.bin").write_bytes(data)
            with pytest.raises(DamagedError):
                Runtime(source, device=device)
        assert os.listdir(tmp_path) == ["net.bin"]

    @pytest.mark.parametrize("values", [{"driver": "0.0"}, {"device": "Some GPU", "vendor": "Someone"}])
    def test_other_device_runs_from_sources(
        self, device: Device, program: bytes, tmp_path: Path, values: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        path = altered(program, tmp_path / "net.bin", signed(**values))
        with caplog.at_level(logging.WARNING, logger="mace_cl"), Runtime(path, device=device) as runtime:
            assert runtime.decision.action == "compile"
            check(runtime)
        assert "compiled from the sources inside the file" in caplog.text

    def test_unbaked(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        path = tmp_path / "net.bin"
        mace_cl.compile(model, path, device=device)
        assert all(target.constants is None for target in read(path).targets)
        with Runtime(path, device=device) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)
        for weights in store.glob("*.weights.bin"):
            weights.unlink()
        with pytest.raises(ProgramError, match="holds no weights"):
            Runtime(path, device=device)
        before = path.read_bytes()
        with Runtime(model, program=path, device=device) as runtime:
            assert runtime.decision.code == "no-weights"
            check(runtime)
        assert path.read_bytes() == before
        with Runtime(path, device=device) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)

    def test_unbaked_without_store(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        path = tmp_path / "net.bin"
        mace_cl.compile(model, path, device=device, store=False)
        with Runtime(model, program=path, device=device, store=False) as runtime:
            assert runtime.decision.code == "no-weights"
            check(runtime)
        assert not store.exists()

    def test_unbaked_with_damaged_weights(self, device: Device, model: Path, tmp_path: Path, store: Path) -> None:
        path = tmp_path / "net.bin"
        mace_cl.compile(model, path, device=device)
        (weights,) = store.glob("*.weights.bin")
        data = bytearray(weights.read_bytes())
        data[-100] ^= 1
        weights.write_bytes(data)
        with Runtime(model, program=path, device=device) as runtime:
            assert runtime.decision.code == "no-weights"
            check(runtime)


class TestDisk:
    def test_store_that_can_not_be_made(
        self, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "file" / "store"))
        self.runs_with_one_warning(device, caplog)

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
    def test_read_only_store(self, device: Device, store: Path, caplog: pytest.LogCaptureFixture) -> None:
        store.mkdir(mode=0o500)
        self.runs_with_one_warning(device, caplog)

    def test_full_disk(
        self, device: Device, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        self.runs_with_one_warning(device, caplog)
        assert list(store.glob("*.bin")) == []

    def test_program_that_can_not_be_written(
        self, device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        self.runs_with_one_warning(device, caplog, program=tmp_path / "file" / "net.bin")

    def runs_with_one_warning(
        self, device: Device, caplog: pytest.LogCaptureFixture, program: Path | None = None
    ) -> None:
        with (
            caplog.at_level(logging.WARNING, logger="mace_cl"),
            Runtime(MODEL, program=program, device=device) as runtime,
        ):
            check(runtime)
        assert len([record for record in caplog.records if record.name.startswith("mace_cl")]) == 1


WARM = """
import sys
import numpy as np
from mace_cl import Runtime
import mace_cl.loading
del mace_cl.loading.build_source
runtime = Runtime(sys.argv[1], device=sys.argv[2])
assert runtime.decision.code == "hit", runtime.decision
outputs = runtime.run({port.name: np.zeros(port.shape, np.float32) for port in runtime.inputs})
assert set(outputs) == {"y", "y1"}
heavy = ("onnx", "onnxruntime", "onnx_ir", "onnxscript", "typer", "rich", "PIL", "mace_cl.passes", "mace_cl.ops",
         "mace_cl.kernels", "mace_cl.lower", "mace_cl.frontends.read", "mace_cl.compiler", "mace_cl.bind",
         "mace_cl.tune", "mace_cl.runtime.compile", "mace_cl.child")
print(*[name for name in sys.modules if name.startswith(tuple(f"{one}." for one in heavy)) or name in heavy])
"""


def test_warm_start_imports_no_compiler(device: Device, model: Path, store: Path, tmp_path: Path) -> None:
    """Nothing that reads models or makes kernels is imported, and none is built: neither from source, nor with `ld`."""
    Runtime(model, device=device).close()
    (tmp_path / "empty").mkdir()
    # Oclgrind is found by its command, and needs no linker
    path = os.environ["PATH"] if device.runtime == "oclgrind" else str(tmp_path / "empty")
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(model), device.runtime],
        env={**os.environ, "POCL_CACHE_DIR": str(tmp_path / "empty"), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_input_that_is_an_output(device: Device, store: Path) -> None:
    """In ONNX both then have one name."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [value, other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()
    x = filled("x", (2, 3))
    for code in ("no-file", "hit"):
        with Runtime(model, device=device) as runtime:
            assert runtime.decision.code == code
            got = runtime.run({"x": x})
        np.testing.assert_array_equal(got["x"], x)
        np.testing.assert_array_equal(got["y"], -x)


def test_buffers_of_odd_bytes(device: Device, store: Path) -> None:
    """Three booleans: PoCL refuses to fill a buffer whose size is no multiple of the pattern's."""
    x = np.array([1, np.nan, 3], np.float32)
    odd = model_of(case("odd", "y = IsNaN(x)", x=x)).SerializeToString()
    for code in ("no-file", "hit"):
        with Runtime(odd, device=device, fallback=False) as runtime:
            assert runtime.decision.code == code
            np.testing.assert_array_equal(runtime.run({"x": x})["y"], [False, True, False])
