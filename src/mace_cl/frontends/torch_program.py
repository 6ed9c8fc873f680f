"""Archives of ``torch.export`` (``.pt2``), made harmless before PyTorch reads them.

``torch.export.load`` of PyTorch 2.13 runs what a file says in several ways: it unpickles sample inputs, constants and
weights, evaluates size expressions as Python (``sympy.sympify``), looks up the targets of nodes in ``torch`` by any
path, imports what tree specifications name, keeps guards as source text, and loads compiled libraries.  So the file
is not handed to it.  `cleaned` writes a new one that has the graph, with targets of known libraries and expressions
of known shape only, and the weights as plain bytes.

Source of the format: ``torch/_export/serde/schema.py``, ``torch/export/pt2_archive``.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any, cast

from mace_cl.errors import MaceClError, ModelError, UnsupportedError
from mace_cl.frontends.archive import Archive, packed

__all__ = ["cleaned", "is_program", "output_names"]

_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(?!from_file\.|_print\.)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(sym_\w+|_sym_sqrt)"
)
_FUNCTIONS = {
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "PowByNatural", "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt",
    "RoundToInt", "ToFloat", "Identity", "Max", "Min", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
    "floor", "ceiling", "Piecewise", "Add", "Mul", "Pow", "Integer", "Rational",
}  # fmt: skip
_PARTS = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.Tuple, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_EXPRESSION = re.compile(r"[\w +\-*/%(),.<>=!&|~']{1,4096}", re.ASCII)
_SYMBOL = re.compile(r"Symbol\('\w{1,64}'(?:, (?:positive|integer|nonnegative|negative)=(?:True|False))*\)", re.ASCII)
"""How PyTorch writes a symbol, besides its name alone."""
_MOST_POWER = 64
_MOST_NAMED = 32
_BEFORE = "serialized_exported_program.json"
_CPU = {"type": "cpu", "index": None}
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2}
"""Size of an element by the number of its ``ScalarType``."""

_TRUST = "if you trust the file, allow it (--trust, or trust=True)"


def is_program(archive: Archive) -> bool:
    """Whether an archive is one of ``torch.export``, of whatever release."""
    return bool({"archive_format", _BEFORE} & set(archive.names()))


def cleaned(archive: Archive) -> tuple[bytes, list[str]]:
    """The archive of one program without anything that could be executed, and the names of its outputs.

    Raises:
        ModelError: a part is missing, damaged, or claims sizes that its bytes do not have.
        UnsupportedError: it holds pickles, several programs or ops of unknown libraries (all are named), or an older
            release of PyTorch wrote it.
    """
    name = archive.name
    programs = [one for one in archive.names() if re.fullmatch(r"models/[^/]+\.json", one)]
    if not programs:
        what = "was written by a PyTorch before 2.8" if _BEFORE in archive.names() else (
            "holds no exported program"
        )  # fmt: skip
        raise UnsupportedError(f"{name}: {what}; save it again with torch.export.save of a newer one")
    if len(programs) > 1:
        raise UnsupportedError(f"{name}: holds several programs ({', '.join(programs)}); save one with torch.export")
    key = programs[0][len("models/") : -len(".json")]
    if archive.read("byteorder") != b"little":
        raise UnsupportedError(f"{name}: was saved on a big-endian machine; save it again on a little-endian one")
    parts = {"models/model.json": b"", "data/sample_inputs/model.pt": b""}
    for kind in ("weights", "constants"):
        config = _config(archive, kind, key)
        parts[f"data/{kind}/model_{kind}_config.json"] = json.dumps({"config": config}).encode()
        for entry in config.values():
            member = f"data/{kind}/{entry['path_name']}"
            parts[member] = archive.read(member)
    program = _json(archive, programs[0])
    try:
        names = _clean_program(program, name)
    except MaceClError:
        raise
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError, StopIteration) as error:
        raise _no_program(name, error) from error
    parts["models/model.json"] = json.dumps(program).encode()
    for member in ("archive_format", "archive_version", "byteorder", ".data/version"):
        parts[member] = archive.read(member)
    return packed({f"model/{member}": data for member, data in parts.items()}), names


def _no_program(name: str, error: object) -> ModelError:
    return ModelError(f"{name}: not a program of torch.export ({error!r}); export the model again")


def _json(archive: Archive, member: str) -> Any:
    try:
        return json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise _no_program(archive.name, error) from error


def _config(archive: Archive, kind: str, key: str) -> dict[str, Any]:
    """What tells where each weight or constant lies, checked against the bytes that are there."""
    name = archive.name
    if f"data/{kind}/{key}.pt" in archive.names():
        raise UnsupportedError(
            f"{name}: an older PyTorch wrote its {kind} as a pickle, which can run any code; load it and save it again "
            f"with PyTorch 2.10 or newer; or, {_TRUST}"
        )
    config = _json(archive, f"data/{kind}/{key}_{kind}_config.json")
    try:
        entries = cast("dict[str, Any]", config["config"])
        pickled = [one for one, entry in entries.items() if entry["use_pickle"] or entry["tensor_meta"] is None]
        if pickled:
            raise UnsupportedError(
                f"{name}: {', '.join(pickled[:_MOST_NAMED])} {'is' if len(pickled) == 1 else 'are'} pickled, which can "
                f"run any code; make plain tensors of them before torch.export.save; or, {_TRUST}"
            )
        claimed = 0
        for one, entry in entries.items():
            claimed += _check_tensor(archive, f"data/{kind}/{entry['path_name']}", entry["tensor_meta"], one)
            entry["tensor_meta"]["device"] = _CPU
        held = sum(archive.size(member) for member in archive.names())
        if claimed > 16 * held + (64 << 20):
            raise ModelError(f"{name}: {kind} of {claimed} bytes, but the archive holds {held}; refused")
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_program(name, error) from error
    return entries


def _check_tensor(archive: Archive, member: str, meta: dict[str, Any], title: str) -> int:
    """How many bytes a tensor takes, of which all lie in the member.

    Raises:
        ModelError: they do not.
    """
    sizes, strides = ([int(one["as_int"]) for one in meta[part]] for part in ("sizes", "strides"))
    offset, item = int(meta["storage_offset"]["as_int"]), _BYTES.get(meta["dtype"], 0)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
    count = math.prod(sizes)
    fits = not count or (last + 1) * item <= archive.size(member)
    if not item or len(sizes) != len(strides) or min([0, offset, *sizes, *strides]) < 0 or not fits:
        raise ModelError(
            f"{archive.name}: {title!r} of shape {sizes} does not fit the {archive.size(member)} bytes of {member!r}; "
            "export the model again"
        )
    return count * item


def _clean_program(program: dict[str, Any], name: str) -> list[str]:
    module = program["graph_module"]
    refused = sorted(set(_refused(module["graph"])))
    if refused:
        more = f" and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
        raise UnsupportedError(
            f"{name}: {'; '.join(refused[:_MOST_NAMED])}{more}. mace-cl has no mapping for these: use PyTorch's own "
            "ops in their place"
        )
    for found in _dicts([module, program.get("range_constraints")]):
        if isinstance(found.get("expr_str"), str):
            _check_expression(found["expr_str"], name)
        for device in ("device", "as_device"):
            if isinstance(found.get(device), dict):
                found[device] = _CPU
        if isinstance(found.get("target"), str):
            stack = found["metadata"].get("nn_module_stack")
            found["metadata"] = {"nn_module_stack": stack} if stack else {}
    root = next(entry for entry in module["module_call_graph"] if entry["fqn"] == "")
    signature, graph = root["signature"], module["signature"]
    names = output_names(json.loads(signature["out_spec"])[1])
    inputs = sum(1 for spec in graph["input_specs"] if {"user_input", "constant_input"} & set(spec))
    outputs = sum(1 for spec in graph["output_specs"] if "user_output" in spec)
    signature["in_spec"] = json.dumps([1, _tree("tuple", _tree("tuple", *[_LEAF] * inputs), _tree("dict"))])
    signature["out_spec"] = json.dumps([1, _tree("tuple", *[_LEAF] * outputs)])
    module["module_call_graph"] = [root]
    module["metadata"], module["treespec_namedtuple_fields"] = {}, {}
    program["guards_code"] = []
    return names


_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def _tree(kind: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": f"builtins.{kind}",
        "context": "[]" if kind == "dict" else "null",
        "children_spec": children,
    }


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _dicts(one)


def _refused(graph: dict[str, Any]) -> Iterator[str]:
    """Whatever is not an op of PyTorch's own libraries with plain arguments, and where."""
    for found in _dicts(graph):
        target = found.get("target")
        if isinstance(target, str) and not _TARGETS.fullmatch(target):
            stack = str(found["metadata"].get("nn_module_stack", "")).rsplit(";", 1)[-1].split(",")
            layer = stack[1] if len(stack) > 1 and stack[1] else found.get("name") or "the model"
            yield f"{target} at {layer!r}"
        for kind in ("as_operator", "as_custom_obj"):
            if found.get(kind) is not None:
                yield f"an argument of the kind {kind[3:]!r}"


def _check_expression(text: str, name: str) -> None:
    """See that a size expression is arithmetic of symbols and small numbers.

    Raises:
        ModelError: it is anything else.
    """
    refused = ModelError(f"{name}: the size expression {text[:80]!r} is no plain arithmetic; refused")
    if not _EXPRESSION.fullmatch(text):
        raise refused
    try:
        parts = list(ast.walk(ast.parse(_SYMBOL.sub("s", text), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refused from error
    powers = 1
    for part in parts:
        if not isinstance(part, _PARTS) or isinstance(part, (ast.LShift, ast.RShift, ast.MatMult)):
            raise refused
        if (isinstance(part, ast.Constant) and _number(part) is None) or (
            isinstance(part, ast.Name) and "__" in part.id
        ):
            raise refused
        exponent: ast.expr | None = None
        if isinstance(part, ast.Call):
            function = part.func
            if not isinstance(function, ast.Name) or function.id not in _FUNCTIONS or part.keywords or not part.args:
                raise refused
            if function.id in ("Pow", "PowByNatural"):
                exponent = part.args[-1]
        elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
            exponent = part.right
        if exponent is not None:
            found = _number(exponent)
            if found is None:
                raise refused
            powers *= max(1, math.ceil(abs(found)))
    if powers > _MOST_POWER:
        raise refused


def _number(node: ast.expr) -> float | None:
    """The constant that a node is, with a sign or as ``Integer(2)``; None if it is none, or a large one."""
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    if isinstance(node, ast.Call):
        return _number(node.args[0]) if len(node.args) == 1 else None
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, (int, float)) and abs(value) < 2**63 else None


def output_names(tree: dict[str, Any]) -> list[str]:
    """A name for each leaf of what a module returns: keys of dicts and fields, places in tuples.

    One tensor is ``output``, the tensors of a tuple ``output_0`` and so on, those of a dict have their keys.
    """

    def leaves(node: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if node["type"] is None:
            yield path
            return
        children = node["children_spec"]
        try:
            keys = json.loads(node["context"])
        except (ValueError, TypeError):
            keys = None
        fits = isinstance(keys, list) and len(keys) == len(children)
        for place, child in enumerate(children):
            yield from leaves(child, (*path, str(keys[place] if fits else place)))

    paths = list(leaves(tree, ()))
    return ["_".join(path if path and not path[0].isdecimal() else ("output", *path)) for path in paths]
