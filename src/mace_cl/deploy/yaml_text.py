"""YAML as MACE has it: without tags, and of bounded size however its aliases multiply it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mace_cl.errors import InputError

__all__ = ["content"]

MAX_BYTES = 1 << 20
MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """YAML without tags, in which ON and OFF are words."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: the tag {tag!r}; tags are not read")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def content(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The values of a file, with ``${NAME}`` replaced from ``environment``.

    Raises:
        InputError: it can't be read, is no YAML, has tags, or stands for more than `MAX_NODES` values.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: has more than {MAX_BYTES} bytes; is it a deployment file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text ({error}); is it a deployment file?") from error
    missing = sorted({name for name in re.findall(r"\$\{(\w+)\}", text) if name not in environment})
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} must be set in the environment, as the file asks for it")
    text = re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], text)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _count(node, {}, path)
            found = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no YAML that can be read: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no keys; is it a deployment file?")
    return found


def _count(node: Any, known: dict[int, int], path: Path) -> int:
    """How many values ``node`` stands for, each alias counted as what it repeats."""
    if node is None:
        return 0
    if id(node) in known:
        size = known[id(node)]
        if size < 0:
            raise InputError(f"{path}: a value holds itself")
        return size
    known[id(node)] = -1
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_count(one, known, path) for pair in node.value for one in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_count(one, known, path) for one in node.value)
    if size > MAX_NODES:
        raise InputError(f"{path}: stands for more than {MAX_NODES} values; are there aliases of aliases?")
    known[id(node)] = size
    return size
