"""``mace-cl inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import Verbs, add_json, add_verb

if TYPE_CHECKING:
    from mace_cl.program.inspect import Inspection, TargetView

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "inspect",
        _run,
        "Show what a compiled program holds. Every byte of it is checked first.",
        "  mace-cl inspect mace-cl-compiled-program.bin\n"
        "  mace-cl inspect mace-cl-compiled-program.bin --text > program.pb.txt\n"
        "  mace-cl inspect mace-cl-compiled-program.bin --json",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a compiled program")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print the manifest as protobuf text")
    add_json(form)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.tools import inspect

    result = inspect.run(inspect.InspectArgs(options.file, options.text))
    if options.json:
        print_json(result.inspection)
    elif result.text is not None:
        print(result.text, end="")
    else:
        _show(result.inspection)


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
        ("kernels", str(seen.kernel_count)),
        ("head", bytes_(seen.head_bytes)),
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
        print_table(("kernel", "family", "launches", "unit", "source", "parameters"), kernels, numbers=(2, 3, 4))


def _target(number: int, target: TargetView) -> list[tuple[str, str]]:
    from mace_cl.cli.output import bytes_

    signature = target.signature
    ports = [
        (what, f"{port.name} {port.dtype} {list(port.shape)}")
        for what, several in (("input", target.inputs), ("output", target.outputs))
        for port in several
    ]
    return [
        (f"target device {number + 1}", f"{signature.device} ({signature.vendor})"),
        ("driver version", signature.driver),
        ("platform", f"{signature.platform}, {signature.platform_version}"),
        ("OpenCL C", signature.c_version),
        *ports,
        ("kernels", f"{len(target.kernels)}, launched {target.launches} times in a run"),
        ("binaries", f"{bytes_(target.binary_bytes)}, in {target.units_with_binary} of {target.units} units"),
        ("sources", bytes_(target.source_bytes)),
        ("weights", bytes_(target.constant_bytes) + (", inside" if target.constants_inside else ", not inside")),
        ("arena", bytes_(target.arena_bytes)),
        ("build options", target.build_options),
        *target.provenance,
    ]
