"""Imports flow one way; the outside world is touched in few places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mace_cl

ROOT = Path(mace_cl.__file__).parent

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "record": set(),
    "settings": {"errors", "record"},
    "wire": {"errors"},
    "child": set(),
    "schedule": {"record"},
    "expr": set(),
    "plan": {"schedule"},
    "deploy": {"errors"},
    "device": {"errors", "record"},
    "kernels": {"expr", "plan"},
    "graph": set(),
    "frontends": {"child", "errors", "wire"},
    "ops": {"errors", "expr", "graph", "kernels", "plan"},
    "passes": {"errors", "expr", "graph", "ops", "schedule"},
    "export": {"errors", "frontends", "graph"},
    "lower": {"errors", "expr", "graph", "kernels", "ops", "plan", "schedule"},
    "bind": {"lower", "plan", "schedule"},
    "placement": {"errors", "lower", "passes", "plan", "schedule"},
    "program": {"device", "errors", "record", "schedule"},
    "identity": {"errors", "frontends"},
    "runtime": {"child", "device", "errors", "program", "schedule"},
    "tune": {
        "bind",
        "child",
        "device",
        "errors",
        "expr",
        "kernels",
        "lower",
        "plan",
        "program",
        "runtime",
        "schedule",
        "settings",
    },
}
"""What each part may import; those that follow here may import everything above them and themselves."""

LATER = (
    "foreign",
    "request",
    "compiler",
    "onnx_backend",
    "loading",
    "keeping",
    "start",
    "variants",
    "engine",
    "demo",
    "benchmark",
    "tools",
    "cli",
    "__main__",
    "__init__",
)
"""In order: each may import all of ``LAYERS`` and those before it."""

WARM = {
    "engine",
    "start",
    "variants",
    "keeping",
    "loading",
    "request",
    "runtime",
    "program",
    "device",
    "schedule",
    "identity",
    "record",
    "errors",
    "settings",
    "__init__",
}
"""What a warm start imports; it may import other parts inside functions only."""


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Part, file and syntax tree of every module of the package."""
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        part = inside.parts[0].removesuffix(".py")
        yield part, inside, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules that ``tree`` imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def typing_only(tree: ast.Module) -> ast.Module:
    """``tree`` without what stands under ``if TYPE_CHECKING``: that is not imported when it runs."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    return Strip().visit(tree)  # type: ignore[no-any-return]


def parts(names: Iterator[str]) -> set[str]:
    """The parts of mace-cl among dotted names."""
    found = set()
    for name in names:
        words = name.split(".")
        if (
            words[0] == "mace_cl"
            and len(words) > 1
            and (ROOT / words[1]).with_suffix(".py").exists() | (ROOT / words[1]).is_dir()
        ):
            found.add(words[1])
    return found


def allowed(part: str) -> set[str]:
    if part in LAYERS:
        return LAYERS[part] | {part}
    return set(LAYERS) | set(LATER[: LATER.index(part) + 1])


def test_every_part_has_its_place() -> None:
    assert {part for part, _, _ in modules()} <= {*LAYERS, *LATER}


def test_imports_flow_one_way() -> None:
    wrong = [
        f"{path} imports {sorted(extra)}"
        for part, path, tree in modules()
        if (extra := parts(imported(typing_only(tree))) - allowed(part))
    ]
    assert wrong == []


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(LAYERS):
        ready = {part for part, needs in LAYERS.items() if needs <= done} - done
        assert ready, f"a cycle among {set(LAYERS) - done}"
        done |= ready


def outside_functions(tree: ast.Module) -> ast.Module:
    """``tree`` without the bodies of functions: what runs when the module is imported."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

    return Strip().visit(typing_only(tree))  # type: ignore[no-any-return]


def test_a_warm_start_imports_no_compiler() -> None:
    heavy = {
        "bind",
        "compiler",
        "frontends",
        "graph",
        "kernels",
        "lower",
        "ops",
        "passes",
        "placement",
        "plan",
        "expr",
        "tune",
    }
    for part, path, tree in modules():
        if part in WARM:
            names = list(imported(outside_functions(tree)))
            assert not parts(iter(names)) & heavy, path
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {"onnx", "onnx_ir", "onnxscript", "onnxruntime", "PIL", "rich", "typer"}, path


ONLY_IN = {
    "pyopencl": {"device", "loading", "runtime", "tune"},
    "onnx": {"export", "frontends", "passes", "demo", "tools", "foreign", "onnx_backend"},
    "onnx_ir": {"export", "frontends", "graph", "ops", "passes", "lower", "placement", "onnx_backend"},
    "onnxscript": {"passes"},
    "onnxruntime": {"benchmark", "demo", "runtime", "tools"},
    "torch": {"frontends", "tools"},
    "tensorflow": {"frontends", "tools"},
    "tf2onnx": {"frontends"},
    "keras": {"frontends", "tools"},
    "h5py": {"frontends"},
    "pydantic": {"deploy"},
    "yaml": {"deploy"},
    "typer": {"cli"},
    "rich": {"cli"},
    "platformdirs": {"settings"},
    "filelock": {"program"},
    "ctypes": {"device"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
    "dill": set(),
    "cloudpickle": set(),
}


@pytest.mark.parametrize("package", ONLY_IN)
def test_package_is_used_in_few_places(package: str) -> None:
    users = {
        f"{path}"
        for part, path, tree in modules()
        if package in {name.partition(".")[0] for name in imported(tree)} and part not in ONLY_IN[package]
    }
    assert users == set()


def test_numpy_loads_no_pickle() -> None:
    for _, path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def test_environment_is_read_in_few_places() -> None:
    """Behaviour hangs on settings; libraries have variables of their own; measured starts have own caches."""
    readers = set()
    for _, path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv"):
                readers.add(path.as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not {alias.name for alias in node.names} & {"environ", "getenv", "putenv"}, path
    assert readers <= {
        "settings.py",
        "device/drivers.py",
        "frontends/tensorflow_child.py",
        "runtime/host.py",
        "tools/fresh.py",
    }


def test_the_check_can_fail() -> None:
    tree = ast.parse("def f():\n  from mace_cl.ops import Builder\n  import mace_cl.graph\n  from mace_cl import bind")
    assert parts(imported(tree)) == {"ops", "graph", "bind"}
    assert not {"ops", "graph"} <= allowed("runtime")
    assert parts(imported(outside_functions(tree))) == set()
    assert parts(imported(typing_only(ast.parse("if TYPE_CHECKING:\n  import mace_cl.ops")))) == set()
