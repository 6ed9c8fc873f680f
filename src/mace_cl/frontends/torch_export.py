"""Modules of PyTorch in memory as ONNX, by PyTorch's own exporters."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes import common

from mace_cl.errors import InputError, UnsupportedError
from mace_cl.frontends.graphs import free
from mace_cl.frontends.torch_program import output_names

if TYPE_CHECKING:
    import torch

__all__ = [
    "OPSET", "convert", "examples", "export", "first_line", "forward_inputs", "from_program", "from_script",
    "script_inputs",
]  # fmt: skip

OPSET = 20
"""The newest that PyTorch's exporter of TorchScript writes."""

_MOST_INPUTS = 1 << 30
_MOST_NAMED = 32
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's exporter notes which modules a node comes from, the outermost first, and its own name."""


def convert(module: Any, example: Any, dynamic_shapes: Mapping[str, Any] | Sequence[Any] | None = None) -> bytes:
    """A module, exported program or TorchScript module in memory as the bytes of an ONNX model.

    Raises:
        InputError: ``example`` is no tensor, tuple of tensors or dict of them.
        UnsupportedError: PyTorch can't export it, or it has ops without a mapping; or PyTorch is missing.
    """
    if importlib.util.find_spec("torch") is None:
        raise UnsupportedError("from_torch needs the package torch; pip install 'mace-cl[torch]'")
    import torch

    name = type(module).__name__
    args, kwargs = _arguments(example)
    if isinstance(module, torch.jit.ScriptModule):
        if kwargs:
            raise InputError(f"{name}: a TorchScript module takes its example as a tuple, in the order of its inputs")
        return from_script(module, args, name)
    if isinstance(module, torch.export.ExportedProgram):
        return from_program(module, name)
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"from_torch takes a torch.nn.Module or an exported program, not {name}")
    return from_program(export(module, args, kwargs, dynamic_shapes, name), name)


def first_line(error: BaseException) -> str:
    """What the innermost cause of an error says, without colours."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    # of TorchScript the last line is what went wrong, after a traceback
    text = lines[-1 if "TorchScript interpreter" in lines[0] else 0][:300] if lines else ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's progress, advice and deprecations from the terminal: what matters becomes an error."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with; a dict names keywords, as ``run`` does inputs."""
    import torch

    if isinstance(example, torch.Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, (tuple, list)):
        return tuple(example), {}
    raise InputError(f"an example is a tensor, a tuple of what the module takes, or a dict, not {type(example)}")


def export(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any, name: str) -> Any:
    """The module's program as it answers in ``eval``; the module is left as it was."""
    import torch

    modes = {one: one.training for one in module.modules()}
    module.eval()
    try:
        with _quietly(), torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=_sizes(dynamic_shapes), strict=False)
    except Exception as error:
        raise UnsupportedError(
            f"{name}: torch.export can't trace it ({first_line(error)}); change the module, or the example, until "
            "torch.export.export takes them"
        ) from error
    finally:
        for one, mode in modes.items():
            one.training = mode


def _sizes(shapes: Any) -> Any:
    """Dynamic shapes as ``torch.export`` takes them: it has no names of sizes alone."""
    import torch

    if isinstance(shapes, Mapping):
        return {key: _sizes(one) for key, one in shapes.items()}
    if isinstance(shapes, (tuple, list)):
        return type(shapes)(_sizes(one) for one in shapes)
    return torch.export.Dim.DYNAMIC if isinstance(shapes, str) else shapes


def from_program(
    program: torch.export.ExportedProgram,
    name: str,
    outputs: Sequence[str] | None = None,
    inputs: Sequence[str] = (),
) -> bytes:
    """An exported program as ONNX; ``inputs`` and ``outputs`` name what it takes and returns, if others than its own.

    Raises:
        UnsupportedError: ops that PyTorch's exporter has no translation of, all of them; or it fails otherwise.
    """
    import torch

    if outputs is None:
        tree = torch.utils._pytree.treespec_dumps(program.call_spec.out_spec)
        outputs = output_names(json.loads(tree)[1])
    with _quietly():
        try:
            exported = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False, opset_version=OPSET)
            assert exported is not None
            model = exported.model
        except Exception as error:
            raise _refusal(error, _unmapped(program), name) from error
        for value, wanted in zip(model.graph.inputs, inputs, strict=bool(inputs)):
            value.name = wanted
        return _named(model, _given(program, outputs), name)


def _given(program: torch.export.ExportedProgram, outputs: Sequence[str]) -> list[str]:
    """Those of the names whose outputs are arrays: constants and None are none of the graph's."""
    from torch.export.graph_signature import OutputKind, SymIntArgument, TensorArgument

    specs = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    return [
        name
        for name, spec in zip(outputs, specs, strict=True)
        if isinstance(spec.arg, (TensorArgument, SymIntArgument))
    ]


def _named(model: ir.Model, outputs: Sequence[str], name: str) -> bytes:
    """The model's bytes, with its outputs called ``outputs`` and its nodes by the modules that they come from.

    What else the exporter notes is dropped: it has paths of the machine, and equal models should be equal bytes.
    """
    common.InlinePass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    model.metadata_props.clear()
    graph = model.graph
    graph.metadata_props.clear()
    inputs = {str(value.name) for value in graph.inputs}
    values = {str(value.name): value for node in graph.all_nodes() for value in node.outputs}
    for value, wanted in zip(graph.outputs, outputs, strict=True):
        other = values.get(wanted, value)
        if other is not value:
            other.name = free(values | dict.fromkeys([*outputs, *graph.initializers]), f"{wanted}/inner")
            values[other.name] = other
        if value.producer() is not None and wanted not in inputs:
            value.name = wanted
            values[wanted] = value
    taken: dict[str, None] = {}
    for node in graph.all_nodes():
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        layer = scopes[-2] if len(scopes) > 1 else ""
        node.name = free(taken, f"{layer}/{node.op_type}" if layer else (*scopes, node.name)[-2 if scopes else -1])
        taken[node.name] = None
        node.metadata_props.clear()
        if layer:
            node.metadata_props["mace_cl.layer"] = layer
        for value in node.outputs:
            value.metadata_props.clear()
    try:
        data: bytes = ir.to_proto(model).SerializeToString()
    except ValueError as error:  # protobuf's limit
        raise UnsupportedError(
            f"{name}: its weights take 2 GiB or more; export it as ONNX with its weights outside (torch.onnx.export)"
        ) from error
    return data


def _unmapped(program: torch.export.ExportedProgram) -> list[str]:
    """The ops that PyTorch's exporter has no translation of, each with its module; empty if that can't be told."""
    try:
        from torch.onnx._internal.exporter import _dispatching, _fx_passes, _registration

        registry = _registration.ONNXRegistry().from_torchlib(opset_version=OPSET)
        nodes = _fx_passes.decompose_with_registry(program, registry).graph.nodes
        missing = [
            node
            for node in nodes
            if node.op == "call_function"
            and node.meta.get("val") is not None
            and str(node.target) != "<built-in function getitem>"
            and _dispatching.dispatch(node, registry)[0] is None
        ]
    except Exception:  # other releases are built otherwise inside
        return []
    layers = [list((node.meta.get("nn_module_stack") or {"": ("",)}).values())[-1][0] for node in missing]
    return [f"{node.target} at {layer or node.name!r}" for node, layer in zip(missing, layers, strict=True)]


def _refusal(error: Exception | None, missing: Sequence[str], name: str) -> UnsupportedError:
    found = list(dict.fromkeys(missing))
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    what = "; ".join(found[:_MOST_NAMED]) + more
    if error is not None and not found:
        what = f"fails in PyTorch ({first_line(error)})"
    return UnsupportedError(f"{name}: {what}. PyTorch can't write that as ONNX; replace it in the module")


def script_inputs(module: Any, name: str) -> dict[str, str]:
    """The inputs of ``forward`` by name; they have no types: "Long" for indices of a table, else "Float".

    Raises:
        UnsupportedError: one is no tensor.
    """
    import torch

    graph = module.inlined_graph
    found = {}
    for value, argument in zip(list(graph.inputs())[1:], module.forward.schema.arguments[1:], strict=True):
        if argument.has_default_value() and str(argument.type).startswith("Optional"):
            continue
        if not isinstance(value.type(), torch._C.TensorType):
            raise UnsupportedError(
                f"{name}: the input {argument.name!r} is a {argument.type}; export the module with torch.export.save"
            )
        indices = any(use.user.kind() == "aten::embedding" and use.offset == 1 for use in value.uses())
        found[argument.name] = "Long" if indices else "Float"
    return found


def forward_inputs(module: Any) -> dict[str, str]:
    """The arguments of ``forward`` that have no default."""
    parameters = inspect.signature(module.forward).parameters.values()
    return {one.name: "Float" for one in parameters if one.default is one.empty}


def examples(inputs: Mapping[str, str], shapes: Mapping[str, Sequence[int]], name: str) -> tuple[Any, ...]:
    """A tensor for each input, of the shape given.

    Raises:
        InputError: a shape is missing, or of no input.
    """
    import torch

    unknown, missing = sorted(set(shapes) - set(inputs)), sorted(set(inputs) - set(shapes))
    if unknown:
        raise InputError(f"{name}: shapes given for {unknown}, but the inputs are {sorted(inputs)}")
    if missing:
        options = " ".join(f"--input-shape {one}=1,3,224,224" for one in missing)
        raise InputError(
            f"{name}: the file does not say the shapes of its inputs {missing}; give them, for example {options}, or "
            f"shapes={{{missing[0]!r}: (1, 3, 224, 224)}}"
        )
    size = 4 * sum(math.prod(shape) for shape in shapes.values())
    if size > _MOST_INPUTS:
        raise InputError(f"{name}: inputs of {size} bytes are too large; give smaller shapes")
    dtypes = {"Long": torch.int64, "Float": torch.float32}
    return tuple(torch.zeros(tuple(shapes[one]), dtype=dtypes[kind]) for one, kind in inputs.items())


def from_script(module: Any, given: tuple[Any, ...], name: str) -> bytes:
    """A TorchScript module as ONNX for inputs like ``given``.

    PyTorch's older exporter keeps the names of layers, but gives up where it loses track of ranks, as in attention.
    What it can't write goes by way of an exported program.

    Raises:
        UnsupportedError: ops that neither has a translation of, all of them; or the module fails.
    """
    import torch

    module = module.eval()
    inputs = list(script_inputs(module, name))
    with _quietly(), torch.no_grad():
        try:
            answer = module(*given)
        except Exception as error:
            raise _refusal(error, [], name) from error
        tree = json.loads(torch.utils._pytree.treespec_dumps(torch.utils._pytree.tree_structure(answer)))
        outputs = output_names(tree[1])
        try:
            model, missing = _traced(module, given, inputs)
            if not missing:
                return _named(model, outputs, name)
            refused = _refusal(None, missing, name)
        except Exception as error:
            refused = _refusal(error, [], name)
        try:
            from torch._export.converter import TS2EPConverter

            program = TS2EPConverter(module, given, {}).convert()
        except Exception:
            raise refused from None
        return from_program(program, name, outputs, inputs)


def _traced(module: Any, given: tuple[Any, ...], inputs: Sequence[str]) -> tuple[ir.Model, list[str]]:
    """What PyTorch's older exporter makes of a TorchScript module, and what it has no translation of."""
    import onnx
    import torch

    file = io.BytesIO()
    torch.onnx.export(
        module, given, file, input_names=inputs, dynamo=False, opset_version=OPSET, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        # leaves what it can't write as nodes of another domain, where the default stops at the first
        operator_export_type=torch.onnx.OperatorExportTypes.ONNX_FALLTHROUGH,
    )  # fmt: skip
    model = ir.from_proto(onnx.load_from_string(file.getvalue()))
    missing = []
    for node in model.graph.all_nodes():
        layer, _, last = str(node.name).strip("/").rpartition("/")
        node.metadata_props[_SCOPES] = repr(["", *([layer.replace("/", ".")] if layer else []), last])
        if node.domain:
            missing.append(f"{node.op_type} at {layer.replace('/', '.') or last!r}")
    return model, missing
