"""``mace-cl inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import Verbs, add_json, add_verb

if TYPE_CHECKING:
    from mace_cl.foreign import Description
    from mace_cl.program.inspect import Inspection, TargetView
    from mace_cl.program.seal import Signed

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "inspect",
        _run,
        "Show what a compiled program holds, or what another file is. Every byte of a compiled program is checked\n"
        "first; other files are known by their content: MACE's, program binaries of OpenCL drivers, models.",
        "  mace-cl inspect mace-cl-compiled-program.bin\n"
        "  mace-cl inspect mace-cl-compiled-program.bin --text > program.pb.txt\n"
        "  mace-cl inspect mace-cl-compiled-program.bin --trust release.key.pub --key secret.hex --json\n"
        "  mace-cl inspect mace_cl_compiled_program.bin --dump_binary_info",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="any file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print a compiled program's manifest as protobuf text")
    parser.add_argument(
        "--dump_binary_info", action="store_true",
        help="print six lines only: version, GPU, driver, kernels, size and CRC32 of the compiled kernels",
    )  # fmt: skip
    parser.add_argument(
        "--trust", action="append", metavar="KEY",
        help="a public key: a file, or 64 hexadecimal digits; repeatable; default: the setting trusted_keys",
    )  # fmt: skip
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="64 hexadecimal digits that decrypt; default: the setting key"
    )
    add_json(form)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.errors import SealError
    from mace_cl.foreign import Description
    from mace_cl.tools import binary_info, inspect

    if options.dump_binary_info:
        info = binary_info.run(options.file)
        if options.json:
            print_json(info)
        else:
            print("\n".join(info.lines()))
        return
    trusted = tuple(options.trust) if options.trust else None
    result = inspect.run(inspect.InspectArgs(options.file, options.text, trusted, options.key))
    if isinstance(result, Description):
        _show_other(options, result)
        return
    if options.json:
        print_json(result.inspection)
    elif result.text is not None:
        print(result.text, end="")
    else:
        _show(result.inspection)
    wrong = [one.key for one in result.inspection.signatures if one.state == "wrong"]
    if wrong:
        raise SealError(f"{options.file}: is not what the key {', '.join(wrong)} signed; it was altered")


def _show_other(options: argparse.Namespace, seen: Description) -> None:
    """Print it; then fail where it is damaged or not known, so that scripts can tell."""
    from mace_cl.cli.describe import show
    from mace_cl.cli.output import print_json
    from mace_cl.errors import DamagedError, ForeignError

    if options.json:
        print_json(seen)
    else:
        show(options.file, seen)
    if seen.problems:
        raise DamagedError(f"{options.file}: {seen.title}, but damaged: {seen.problems[0]}")
    if seen.kind in ("unknown", "empty"):
        raise ForeignError(f"{options.file}: no kind of file that mace-cl knows; what was seen in it is above")


def _show(seen: Inspection) -> None:
    from mace_cl.cli.output import bytes_, print_lines, print_table

    rows = [
        ("file", seen.file),
        ("format version", str(seen.format_version)),
        ("size", f"{bytes_(seen.file_bytes)} ({seen.file_bytes} bytes)"),
        ("CRC32", seen.crc32),
        ("producer", f"{seen.producer}, engine {seen.engine[:12]}…"),
        ("model", f"{seen.model.name}, sha256 {seen.model.sha256[:12]}…"),
        ("options", ", ".join(f"{name}={value}" for name, value in seen.options) or "none"),
        *((("parameter " if one.parameter else "takes ") + one.name, str(one)) for one in seen.inputs if one.open),
        ("kernels", str(seen.kernel_count)),
        ("head", bytes_(seen.head_bytes)),
        ("signed by", ", ".join(map(_signed, seen.signatures)) or "nobody"),
        ("encrypted", _encrypted(seen)),
        *((f"{kind} sections", bytes_(size)) for kind, size in sorted(seen.section_bytes.items())),
    ]
    print_lines(rows)
    for number, target in enumerate(seen.targets):
        print()
        print_lines(_target(number, target))
        kernels = (
            (
                kernel.name,
                kernel.family,
                str(kernel.launches),
                str(kernel.unit),
                bytes_(kernel.source_bytes),
                ", ".join(f"{name}={value}" for name, value in kernel.parameters),
            )
            for kernel in target.kernels
        )
        hosts = (
            (", ".join(host.nodes), host.provider, str(host.at), bytes_(host.model_bytes), host.model_sha256[:12])
            for host in target.hosts
        )
        if target.hosts:
            print_table(
                ("nodes on the host", "provider", "before launch", "sub-model", "sha256"), hosts, numbers=(2, 3)
            )
        print_table(("kernel", "family", "launches", "unit", "source", "parameters"), kernels, numbers=(2, 3, 4))


def _signed(one: Signed) -> str:
    return f"{one.key} ({one.state}{', trusted' if one.trusted else ''})"


def _encrypted(seen: Inspection) -> str:
    if not seen.encrypted_with:
        return "no"
    return f"weights and sources, with the key {seen.encrypted_with}{'' if seen.readable else ', which is not at hand'}"


def _target(number: int, target: TargetView) -> list[tuple[str, str]]:
    from mace_cl.cli.output import bytes_

    signature = target.signature
    ports = [
        (what, str(port))
        for what, several in (("input", target.inputs), ("output", target.outputs))
        for port in several
    ]
    return [
        (f"target device {number + 1}", f"{signature.device} ({signature.vendor})"),
        ("driver version", signature.driver),
        ("platform", f"{signature.platform}, {signature.platform_version}"),
        ("OpenCL C", signature.c_version),
        *([("compiled for", target.bucket)] if target.bucket else ()),
        *ports,
        ("kernels", f"{len(target.kernels)}, launched {target.launches} times in a run"),
        ("binaries", f"{bytes_(target.binary_bytes)}, in {target.units_with_binary} of {target.units} units"),
        ("sources", bytes_(target.source_bytes)),
        ("weights", bytes_(target.constant_bytes) + (", inside" if target.constants_inside else ", not inside")),
        ("arena", bytes_(target.arena_bytes)),
        ("build options", target.build_options),
        *target.provenance,
    ]
