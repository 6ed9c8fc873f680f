"""``mace-cl store``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mace_cl.cli.options import Verbs, add_device, add_json, add_verb

if TYPE_CHECKING:
    from mace_cl.program.store import Swept
    from mace_cl.tools.program_store import ListResult

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb and its actions."""
    parser = add_verb(
        verbs,
        "store",
        _list,
        "Show and tidy the compiled programs that are kept for you. Deleting any of them is always safe. All actions\n"
        "know --json.",
        "  mace-cl store ls\n  mace-cl store why model.onnx\n  mace-cl store gc --budget 500MB\n  mace-cl store clear",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_verb(actions, "ls", _list, "List the programs. The most recently used comes first.", "  mace-cl store ls")
    add_verb(
        actions, "verify", _verify, "Check every byte of every program. The exit code is 5 where one is damaged.",
        "  mace-cl store verify",
    )  # fmt: skip
    why = add_verb(
        actions, "why", _why, "Tell what a start would use, rebuild or refuse, and why. Nothing is run or changed.",
        "  mace-cl store why model.onnx\n  mace-cl store why program.bin --device gpu",
    )  # fmt: skip
    why.add_argument("name", metavar="NAME", help="a model, a program file, or the beginning of a name in the store")
    add_device(why)
    gc = add_verb(
        actions, "gc", _gc,
        "Remove leftovers, and programs beyond the budget. Damaged ones go first, then those of another version of\n"
        "mace-cl, then the least recently used; pinned ones stay.",
        "  mace-cl store gc\n  mace-cl store gc --budget 0",
    )  # fmt: skip
    gc.add_argument("--budget", metavar="SIZE", help="such as 500MB; default: the setting store_budget")
    add_verb(actions, "clear", _clear, "Remove every program. Pinned ones go too.", "  mace-cl store clear")
    add_verb(actions, "path", _path, "Print the directory. It need not exist.", "  mace-cl store path")
    for name, run, what in (("pin", _pin, "Never remove a program"), ("unpin", _unpin, "No longer pin a program")):
        pin = add_verb(actions, name, run, f"{what} to make room.", f"  mace-cl store {name} model.onnx")
        pin.add_argument("names", nargs="+", metavar="NAME", help="a model, or the beginning of a name in the store")
    for action in actions.choices.values():
        add_json(action)
    add_json(parser)


def _list(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_store

    _show(program_store.list_(), options.json)


def _verify(options: argparse.Namespace) -> None:
    from mace_cl.errors import DamagedError
    from mace_cl.tools import program_store

    found = program_store.verify()
    _show(found, options.json)
    damaged = sum(bool(entry.problem) for entry in found.entries)
    if damaged:
        raise DamagedError(
            f"{damaged} of {len(found.entries)} programs in {found.directory} can't be used; the next start of their "
            "model makes them anew"
        )


def _show(found: ListResult, json: bool) -> None:
    from datetime import datetime

    from mace_cl.cli.output import bytes_, print_json, print_table

    if json:
        print_json(found)
        return
    rows = [
        (
            entry.path.name,
            entry.model or "?",
            ", ".join(entry.devices),
            bytes_(entry.bytes),
            datetime.fromtimestamp(entry.last_use).strftime("%Y-%m-%d %H:%M"),
            " ".join(filter(None, ("pinned" if entry.pinned else "", entry.problem))),
        )
        for entry in found.entries
    ]
    if rows:
        print_table(("program", "model", "devices", "size", "last use", ""), rows, numbers=(3,))
    print(f"{len(rows)} programs, {bytes_(found.bytes)} of {bytes_(found.budget)}, in {found.directory}")


def _why(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import program_store

    result = program_store.why(options.name, options.device)
    if options.json:
        print_json(result)
        return
    print_lines([("device", result.device)])
    for reason in result.reasons:
        print()
        print_lines([("program", str(reason.path)), (reason.action, reason.code), ("because", reason.sentence)])


def _gc(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_store

    _swept(program_store.gc(options.budget), options.json)


def _clear(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_store

    _swept(program_store.clear(), options.json)


def _swept(swept: Swept, json: bool) -> None:
    from mace_cl.cli.output import bytes_, print_json

    if json:
        print_json(swept)
        return
    for path in swept.removed:
        print(f"removed {path.name}")
    print(f"{len(swept.removed)} files removed, {bytes_(swept.freed)} freed, {bytes_(swept.left)} left")


def _path(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.tools import program_store

    directory = program_store.path()
    if options.json:
        print_json({"directory": directory})
    else:
        print(directory)


def _pin(options: argparse.Namespace, pinned: bool = True) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.tools import program_store

    found = program_store.pin(tuple(options.names), pinned)
    if options.json:
        print_json({"programs": found, "pinned": pinned})
        return
    for path in found:
        print(f"{'pinned' if pinned else 'unpinned'} {path.name}")


def _unpin(options: argparse.Namespace) -> None:
    _pin(options, pinned=False)
