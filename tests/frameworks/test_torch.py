"""Modules of PyTorch, as programs of torch.export, as TorchScript and from memory: PyTorch's own answers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mace_cl
from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.errors import InputError, MaceClError, ModelError, UnsupportedError
from mace_cl.tools import references

torch: Any = pytest.importorskip("torch", reason="needs pip install 'mace-cl[torch]'")
nn = torch.nn
Tensor: Any = torch.Tensor

# PyTorch warns of what it will change.
pytestmark = pytest.mark.filterwarnings("ignore")

Array = NDArray[Any]


class Classifier(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(8 * 4 * 4, 5)
        for norm in (self.features[1],):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, image: Any) -> Any:
        return self.head(torch.flatten(self.features(image), 1)).softmax(1)


class Encoder(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.mix = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, ids: Any) -> Any:
        x = self.table(ids)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        q, k, v = (part.unflatten(2, (4, 4)).transpose(1, 2) for part in (x, self.mix(x), x))
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Recurrent(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 7, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Any) -> Any:
        y, (h, c) = self.lstm(x)
        return y, (h, c)


class Pair(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(5, 6)

    def forward(self, a: Tensor, b: Tensor) -> Any:
        both = self.left(a) + 2 * self.right(b)
        parts = {"sum": both, "left": both[:, :3].tanh()}
        return parts, both[:, 3:].exp()


CASES: dict[str, tuple[Callable[[], Any], dict[str, tuple[int, ...]], list[str]]] = {
    "classifier": (Classifier, {"image": (1, 3, 16, 16)}, ["output"]),
    "encoder": (Encoder, {"ids": (2, 7)}, ["output"]),
    "recurrent": (Recurrent, {"x": (2, 5, 6)}, ["output_0", "output_1_0", "output_1_1"]),
    "pair": (Pair, {"a": (3, 4), "b": (3, 5)}, ["output_0_sum", "output_0_left", "output_1"]),
}


def made(name: str) -> tuple[Any, dict[str, Any]]:
    """A seeded module and inputs for it."""
    kind, shapes, _ = CASES[name]
    torch.manual_seed(1)
    module = kind().eval()
    whole = {"ids"}
    return module, {
        key: torch.randint(0, 50, shape) if key in whole else torch.randn(shape) for key, shape in shapes.items()
    }


def answers(module: Any, inputs: dict[str, Any]) -> list[Array]:
    with torch.no_grad():
        found = module(*inputs.values())
    leaves: list[Any] = torch.utils._pytree.tree_leaves(found)
    return [leaf.numpy() for leaf in leaves]


def exported(module: Any, inputs: dict[str, Any], dynamic_shapes: Any = None) -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (), inputs, dynamic_shapes=dynamic_shapes), file)
    return file.getvalue()


def scripted(module: Any, inputs: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, tuple(inputs.values()), strict=False, check_trace=False), file)
    return file.getvalue()


def compare(runtime: Runtime, module: Any, inputs: dict[str, Any], names: list[str]) -> None:
    got = runtime.run({key: value.numpy() for key, value in inputs.items()})
    assert list(got) == names
    for one, want in zip(got.values(), answers(module, inputs), strict=True):
        assert one.shape == want.shape
        assert np.abs(one - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["pt2", "memory", "torchscript"])
def test_answers(name: str, way: str, device: Device, capfd: pytest.CaptureFixture[str]) -> None:
    module, inputs = made(name)
    names, shapes = CASES[name][2], None
    if way == "pt2":
        model = exported(module, inputs)
    elif way == "memory":
        model = mace_cl.from_torch(module, tuple(inputs.values()))
    else:
        model, shapes = scripted(module, inputs), CASES[name][1]
    capfd.readouterr()
    with Runtime(model, device=device, shapes=shapes, store=False) as runtime:
        assert [port.name for port in runtime.inputs] == list(inputs)
        assert [place.node for place in runtime.where if place.on == "host"] == []
        compare(runtime, module, inputs, names)
    printed = "".join(capfd.readouterr())
    assert not [line for line in printed.splitlines() if "orch" in line or "onnx" in line.lower()], printed


def test_open_sizes_stay_open(device: Device) -> None:
    module, inputs = made("pair")
    batch = torch.export.Dim("batch")
    sizes = {"a": {0: batch}, "b": {0: batch}}
    models = [exported(module, inputs, sizes), mace_cl.from_torch(module, inputs, dynamic_shapes={
        "a": {0: "batch"}, "b": {0: "batch"}
    })]  # fmt: skip
    for model in models:
        with Runtime(model, device=device, store=False) as runtime:
            assert [port.shape for port in runtime.symbolic] == [(None, 4), (None, 5)]
            for rows in (1, 6):
                given = {key: torch.randn(rows, value.shape[1]) for key, value in inputs.items()}
                compare(runtime, module, given, CASES["pair"][2])


def test_layers_keep_their_names(device: Device) -> None:
    module, inputs = made("classifier")
    wanted = {"features.0/Conv", "features.1/BatchNormalization", "features.3/MaxPool", "head/Gemm"}
    for model, shapes in ((exported(module, inputs), None), (scripted(module, inputs), {"image": (1, 3, 16, 16)})):
        with Runtime(model, device=device, shapes=shapes, store=False) as runtime:
            assert wanted <= {place.node for place in runtime.where}
        with Runtime(model, device=device, shapes=shapes, outputs=["features.1"], store=False) as runtime:
            (got,) = runtime.run({"image": inputs["image"].numpy()}).values()
            (want,) = answers(module.features[:2], inputs)
            assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_a_module_is_left_as_it_is() -> None:
    module, inputs = made("classifier")
    module.train()
    module.features[1].eval()
    once = mace_cl.from_torch(module, inputs["image"])
    assert once == mace_cl.from_torch(module, inputs), "equal modules give equal bytes, and so one program"
    assert (module.training, module.features[1].training) == (True, False)


def test_bad_calls() -> None:
    module, inputs = made("classifier")
    with pytest.raises(InputError, match=r"from_torch takes a torch\.nn\.Module or an exported program, not dict"):
        mace_cl.from_torch({}, inputs)
    with pytest.raises(InputError, match="an example is a tensor, a tuple"):
        mace_cl.from_torch(module, 3)
    with pytest.raises(UnsupportedError, match=r"torch\.export can't trace it"):
        mace_cl.from_torch(module, torch.zeros(1, 4, 16, 16))


def test_torchscript_needs_shapes(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(scripted(*made("pair")))
    with pytest.raises(InputError, match=r"does not say the shapes of its inputs .*--input-shape a=1,3,224,224"):
        Runtime(path, store=False)
    with pytest.raises(InputError, match=r"shapes given for \['c'\], but the inputs are \['a', 'b'\]"):
        Runtime(path, shapes={"a": (3, 4), "b": (3, 5), "c": (1,)}, store=False)
    with pytest.raises(InputError, match="too large; give smaller shapes"):
        Runtime(path, shapes={"a": (1 << 40, 4), "b": (3, 5)}, store=False)
    with pytest.raises(UnsupportedError, match=r"fails in PyTorch .*mat1 and mat2"):
        Runtime(path, shapes={"a": (3, 5), "b": (3, 5)}, store=False)


class Unmapped(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return torch.linalg.svd(self.first(x))[1] + torch.special.bessel_j0(x)


def test_all_ops_without_a_mapping_are_named() -> None:
    x = {"x": torch.randn(4, 4)}
    for model in (exported(Unmapped(), x), scripted(Unmapped(), x)):
        with pytest.raises(UnsupportedError, match=r"linalg_svd.*bessel_j0"):
            Runtime(model, shapes={"x": (4, 4)}, store=False)
    with pytest.raises(UnsupportedError, match=r"linalg_svd.*bessel_j0"):
        mace_cl.from_torch(Unmapped(), x)


class Scripted(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.path)
        return x + 1


class Huge(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(1 << 35).sum()


def test_torchscript_writes_no_files_unless_it_is_trusted(tmp_path: Path, device: Device) -> None:
    net, target = tmp_path / "net.pt", tmp_path / "written"
    torch.jit.script(Scripted(str(target))).save(net)
    with pytest.raises(UnsupportedError, match="its TorchScript code uses save"):
        Runtime(net, shapes={"x": (2,)}, store=False)
    assert not target.exists()
    Runtime(net, shapes={"x": (2,)}, store=False, trust=True, device=device).close()
    assert target.exists(), "or this shows nothing"


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(Huge()).save(path)
    with pytest.raises(MaceClError, match=r"net\.pt: .*(memory|alloc)"):
        Runtime(path, shapes={"x": (1,)}, store=False)


def forged(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A program of torch.export after ``change`` to its JSON."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(content)
                change(program["graph_module"]["graph"])
                content = json.dumps(program).encode()
            new.writestr(name, content)
    return file.getvalue()


def test_a_program_runs_nothing(tmp_path: Path) -> None:
    """What PyTorch itself executes when it loads a file is refused before."""
    module, inputs = made("pair")
    target = tmp_path / "written"
    sizes = {"a": {0: torch.export.Dim("batch")}, "b": {0: torch.export.Dim("batch")}}

    def change(graph: dict[str, Any]) -> None:
        size = graph["tensor_values"]["a"]["sizes"][0]
        size["as_expr"]["expr_str"] = f"open({str(target)!r}, 'w').close() or 2"

    data = forged(exported(module, inputs, sizes), change)
    with pytest.raises(ModelError, match=r"the size expression .* is no plain arithmetic; refused"):
        Runtime(data, store=False)
    assert not target.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever PyTorch makes of it
        torch.export.load(io.BytesIO(data))
    assert target.exists(), "or this shows nothing"


def test_a_pickled_module_is_read_if_it_is_trusted(tmp_path: Path, device: Device) -> None:
    path = tmp_path / "net.pth"
    torch.manual_seed(1)
    module, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.randn(2, 4)
    torch.save(module, path)
    with pytest.raises(UnsupportedError, match=r"is a pickle that makes torch\.nn\.modules\.container\.Sequential"):
        Runtime(path, shapes={"input": (2, 4)}, store=False)
    with Runtime(path, shapes={"input": (2, 4)}, store=False, trust=True, device=device) as runtime:
        compare(runtime, module, {"input": x}, ["output"])
    torch.save(module.state_dict(), path)
    with pytest.raises(UnsupportedError, match=r"weights without a network"):
        Runtime(path, store=False, trust=True)


def test_a_start_from_a_program_imports_no_pytorch(tmp_path: Path, device: Device) -> None:
    module, inputs = made("classifier")
    net, program = tmp_path / "net.pt2", tmp_path / "program.bin"
    net.write_bytes(exported(module, inputs))
    Runtime(net, program=program, device=device).close()
    code = (
        "import sys; from mace_cl import Runtime\n"
        f"with Runtime({str(net)!r}, program={str(program)!r}, device={device.name!r}) as runtime:\n"
        "    assert runtime.decision.code == 'hit', runtime.decision\n"
        "print([name for name in ('torch', 'onnx', 'mace_cl.frontends.torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_validate_with_pytorch(tmp_path: Path, device: Device) -> None:
    """PyTorch as the reference is handed what the frontend hands it, and nothing else."""
    module, inputs = made("pair")
    path, target = tmp_path / "net.pt2", tmp_path / "written"
    path.write_bytes(exported(module, inputs))
    data = {key: value.numpy() for key, value in inputs.items()}

    ends = dict.fromkeys(CASES["pair"][2])
    model = references.Model(path, tuple(inputs), ends, (), {}, tuple(ends))
    got = references._torch(model).run(data)
    for one, want in zip(got.values(), answers(module, inputs), strict=True):
        assert np.array_equal(one, want)
    torch.jit.script(Scripted(str(target))).save(path)
    with pytest.raises(UnsupportedError, match="its TorchScript code uses save"):
        references._torch(model)
    torch.save(module, path)
    with pytest.raises(UnsupportedError, match="is a pickle"):
        references._torch(model)
    assert not target.exists()
