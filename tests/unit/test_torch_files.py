"""PyTorch's files as far as they are read without PyTorch: what they are, and what of them is refused."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mace_cl
from mace_cl.errors import MaceClError, ModelError, UnsupportedError
from mace_cl.frontends import torch as frontend
from mace_cl.frontends.archive import Archive
from mace_cl.frontends.formats import recognise
from mace_cl.frontends.read import load
from mace_cl.frontends.torch_program import cleaned, output_names
from mace_cl.frontends.torch_script import LEGACY

LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
META = {
    "dtype": 7, "sizes": [{"as_int": 2}, {"as_int": 3}], "strides": [{"as_int": 3}, {"as_int": 1}],
    "storage_offset": {"as_int": 0}, "device": {"type": "cuda", "index": 0}, "requires_grad": True, "layout": 7,
}  # fmt: skip
Change = Callable[[dict[str, Any]], object]


def program() -> dict[str, Any]:
    """A serialised program of one node, relu, with what the guard looks at."""
    node = {
        "target": "torch.ops.aten.relu.default", "name": "relu",
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
        "outputs": [{"as_tensor": {"name": "relu"}}],
        "metadata": {"nn_module_stack": "L__self__,,m.M;L__self__act,act,torch.nn.ReLU", "stack_trace": "/home"},
    }  # fmt: skip
    size = {"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}
    graph = {
        "inputs": [{"as_tensor": {"name": "x"}}], "outputs": [{"as_tensor": {"name": "relu"}}], "nodes": [node],
        "tensor_values": {"x": {**META, "sizes": [size, {"as_int": 3}]}}, "custom_obj_values": {},
    }  # fmt: skip
    signature = {"in_spec": json.dumps([1, LEAF]), "out_spec": json.dumps([1, LEAF]), "inputs": [], "outputs": []}
    return {
        "graph_module": {
            "graph": graph,
            "signature": {
                "input_specs": [{"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
                "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "relu"}}}}],
            },
            "module_call_graph": [{"fqn": "", "signature": signature}],
            "metadata": {},
        },
        "guards_code": ["print('run')"],
        "range_constraints": {"s77": {"min_val": 1, "max_val": None}},
    }


def archive(changes: Change = lambda parts: None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ``.pt2``, after ``changes`` to its parts: bytes, and JSON as what it stands for."""
    config = {"w": {"path_name": "weight_0", "use_pickle": False, "is_param": True, "tensor_meta": dict(META)}}
    parts: dict[str, Any] = {
        "models/model.json": program(),
        "data/weights/model_weights_config.json": {"config": config},
        "data/weights/weight_0": bytes(24),
        "data/constants/model_constants_config.json": {"config": {}},
        "data/sample_inputs/model.pt": pickle.dumps(Path("/")),
        "data/aotinductor/model/evil.so": b"\x7fELF",
        "archive_format": b"pt2", "archive_version": b"0", ".data/version": b"3\n", "byteorder": b"little",
    }  # fmt: skip
    changes(parts)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, part in parts.items():
            made.writestr(f"m/{name}", part if isinstance(part, bytes) else json.dumps(part))
    return file.getvalue()


def clean(data: bytes) -> tuple[Archive, list[str]]:
    made, names = cleaned(Archive(memoryview(data), "net.pt2"))
    return Archive(memoryview(made), "cleaned"), names


def node_of(parts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = parts["models/model.json"]["graph_module"]["graph"]["nodes"][0]
    return found


def expression(text: str) -> Change:
    def change(parts: dict[str, Any]) -> None:
        sizes = parts["models/model.json"]["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = text

    return change


def weight(**changes: Any) -> Change:
    def change(parts: dict[str, Any]) -> None:
        entry = parts["data/weights/model_weights_config.json"]["config"]["w"]
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    return change


def test_only_the_graph_and_the_weights_are_left() -> None:
    made, names = clean(archive())
    assert names == ["output"]
    assert made.read("data/weights/weight_0") == bytes(24)
    assert made.read("data/sample_inputs/model.pt") == b""
    assert not [name for name in made.names() if "aotinductor" in name]
    text = made.read("models/model.json").decode()
    assert "print" not in text
    assert "/home" not in text
    assert "cuda" not in text
    assert json.loads(text)["graph_module"]["graph"]["nodes"][0]["metadata"] == {
        "nn_module_stack": "L__self__,,m.M;L__self__act,act,torch.nn.ReLU"
    }


@pytest.mark.parametrize(
    "text", ["s77", "2*s77 + 1", "Max(1, s77//2)", "s77**2", "PowByNatural(s0, Integer(3))", "Mod(s0 - 1, 4) + 0.5"]
)
def test_sizes_are_arithmetic(text: str) -> None:
    clean(archive(expression(text)))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "open", "s0.__class__", "eval('1')", "(lambda: 1)()", "[s0][0]", "9**9**9",
        "((9**8)**8)**8", "Pow(9, s0)", "factorial(99999)", "1 << 99", "s0 # x", "s0\n", "'a'*9", "Max(*s0)", "1" * 30,
        "Symbol('s0', cls=print)", "(" * 5000 + ")" * 5000, "",
    ],
)  # fmt: skip
def test_and_nothing_else(text: str) -> None:
    if text == "open":  # a name alone is a symbol, called or not
        text = "open('f')"
    with pytest.raises(ModelError, match="is no plain arithmetic; refused"):
        clean(archive(expression(text)))


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.hub.load", "torch.ops.aten.from_file.default", "torch.ops.mine.foo.default",
               "_operator.attrgetter", "#mine:op", "torch.ops.aten.relu", "torch.load", "math.factorial",
               "builtins.eval", "torch.ops.higher_order.call_torchbind"],
)  # fmt: skip
def test_targets_are_ops(target: str) -> None:
    def change(parts: dict[str, Any]) -> None:
        graph = parts["models/model.json"]["graph_module"]["graph"]
        inner = {"nodes": [{**node_of(parts), "target": "torch.ops.other.bar.default"}]}
        argument = {"name": "", "arg": {"as_graph": {"name": "true_graph", "graph": inner}}, "kind": 1}
        graph["nodes"].append({**node_of(parts), "name": "second", "target": target, "inputs": [argument]})

    with pytest.raises(UnsupportedError) as caught:
        clean(archive(change))
    assert f"{target} at 'act'" in str(caught.value)
    assert "torch.ops.other.bar.default at 'act'" in str(caught.value), "all are named"


@pytest.mark.parametrize("kind", ["as_operator", "as_custom_obj"])
def test_arguments_are_values(kind: str) -> None:
    with pytest.raises(UnsupportedError, match="an argument of the kind"):
        clean(archive(lambda parts: node_of(parts)["inputs"][0].update(arg={kind: "torch.os.system"})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (weight(use_pickle=True), "w is pickled, which can run any code"),
        (weight(path_name="weight_7"), r"does not fit the 0 bytes of 'data/weights/weight_7'"),
        (weight(path_name="../../models/model.json", sizes=[], strides=[], dtype=99), "does not fit"),
        (weight(sizes=[{"as_int": 1 << 40}, {"as_int": 3}]), r"'w' of shape \[1099511627776, 3\] does not fit the 24"),
        (weight(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 0}]), "bytes, but the archive holds"),
        (weight(sizes=[{"as_int": -1}], strides=[{"as_int": 1}]), "does not fit"),
        (weight(storage_offset={"as_int": 1}), "does not fit"),
        (weight(sizes="x"), "not a program of torch.export"),
        (lambda parts: parts.pop("models/model.json"), "holds no exported program"),
        (lambda parts: parts.update({"models/b.json": {}}), "holds several programs"),
        (lambda parts: parts.update({"models/model.json": b"{"}), "not a program of torch.export"),
        (lambda parts: parts.update({"models/model.json": b"[" * 99999}), "not a program of torch.export"),
        (lambda parts: parts.update({"models/model.json": []}), "not a program of torch.export"),
        (lambda parts: parts["models/model.json"].pop("graph_module"), "not a program of torch.export"),
        (lambda parts: parts.pop("data/weights/weight_0"), "does not fit the 0 bytes"),
        (lambda parts: parts.update({"data/weights/model.pt": b"x"}), "an older PyTorch wrote its weights as a pickle"),
        (lambda parts: parts.update({"byteorder": b"big"}), "big-endian"),
        (lambda parts: parts.pop("archive_version"), "lacks 'archive_version'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: Change, message: str) -> None:
    with pytest.raises(MaceClError, match=message):
        clean(archive(change))


def test_damage_is_an_error_of_ours() -> None:
    data = archive()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= int(random.integers(1, 256))
        for one in (bytes(damaged), data[:place]):
            try:
                frontend.guarded(memoryview(one), "net.pt2", False)
            except MaceClError:
                refused += 1
    assert refused >= 200, "all that are cut off, and most others"


def test_archives_do_not_grow() -> None:
    with pytest.raises(ModelError, match="no exporter writes such, refused"):
        Archive(memoryview(archive(lambda parts: parts.update(x=bytes(300 << 20)), zipfile.ZIP_DEFLATED)), "net.pt2")
    data = bytearray(archive())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = b"\xff\xff\xff\x7f"  # the last member's size
    with pytest.raises(ModelError, match=r"no exporter writes such|damaged"):
        Archive(memoryview(data), "net.pt2").read("byteorder")
    twice = archive(lambda parts: parts.update(archive_versiom=b"1")).replace(b"versiom", b"version")
    with pytest.raises(ModelError, match="two members of one name"):
        Archive(memoryview(twice), "net.pt2")


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (LEAF, ["output"]),
        ({"type": "builtins.tuple", "context": "null", "children_spec": [LEAF, LEAF]}, ["output_0", "output_1"]),
        ({"type": "builtins.dict", "context": '["a", "b"]', "children_spec": [
            LEAF, {"type": "builtins.list", "context": "null", "children_spec": [LEAF, LEAF]}]}, ["a", "b_0", "b_1"]),
    ],
)  # fmt: skip
def test_outputs_are_named_by_keys_and_places(tree: dict[str, Any], names: list[str]) -> None:
    assert output_names(tree) == names


def script(code: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, text in {"data.pkl": "", "constants.pkl": "", "version": "3", "code/__torch__.py": code}.items():
            made.writestr(f"net/{name}", text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("    torch.save(x, 'f')", "save"),
        ("    y = ops.aten.from_file('f')", "from_file"),
        ("  def __setstate__(self, state: int) -> NoneType:", "__setstate__"),
        ("    y = ops.debugprims.load_tensor('f')", r"load_tensor, ops\.debugprims"),
        ("    y = ops . c10d.send(x)", r"ops\.c10d"),
    ],
)
def test_torchscript_that_touches_files_is_refused(code: str, named: str) -> None:
    with pytest.raises(UnsupportedError, match=f"TorchScript code uses {named}, which may touch files"):
        load(script(code))
    assert frontend.guarded(memoryview(script(code)), "net.pt", True)[0] == "script"
    assert frontend.guarded(memoryview(script("    y = torch.relu(x)")), "net.pt", False)[0] == "script"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def zipped_pickle(value: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("net/data.pkl", pickle.dumps(value))
        made.writestr("net/version", "3")
    return file.getvalue()


def legacy(value: object) -> bytes:
    return b"".join([LEGACY, pickle.dumps(1001), pickle.dumps({}), pickle.dumps(value)])


@pytest.mark.parametrize("packed", [zipped_pickle, legacy])
def test_pickles_are_refused_unread(packed: Callable[[object], bytes], capsys: pytest.CaptureFixture[str]) -> None:
    found = recognise(memoryview(packed({})))
    assert found is not None
    assert "PyTorch" in found.title
    with pytest.raises(UnsupportedError, match=r"is a pickle that makes builtins\.print; .*\(--trust, or trust=True\)"):
        load(packed({"x": Evil()}))
    with pytest.raises(UnsupportedError, match=r"weights without a network \(a state_dict\)"):
        load(packed({"w": [1.0]}), trust=True)
    assert "run" not in capsys.readouterr().out


def test_a_damaged_pickle() -> None:
    with pytest.raises(ModelError, match="a damaged pickle"):
        load(legacy({"w": [1.0]})[:-10])


def test_a_missing_pytorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"needs the package torch; pip install 'mace-cl\[torch\]'"):
        load(archive())
    with pytest.raises(UnsupportedError, match=r"from_torch needs the package torch"):
        mace_cl.from_torch(object(), ())
