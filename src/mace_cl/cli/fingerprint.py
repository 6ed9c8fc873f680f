"""``mace-cl fingerprint``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import Verbs, add_device, add_json, add_verb

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "fingerprint",
        _run,
        "Print what compiled programs are keyed by. That is the device's signature, the engine and, for a file, its\n"
        "model and the devices that it was made for.",
        "  mace-cl fingerprint\n  mace-cl fingerprint program.bin --device gpu\n"
        "  mace-cl fingerprint model.onnx --json",
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a compiled program or a model")
    add_device(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import fingerprint

    result = fingerprint.run(fingerprint.FingerprintArgs(options.file, options.device))
    if options.json:
        print_json(result)
        return
    print_lines([("runtime", result.device.runtime), *result.device.fields(), ("engine", result.engine)])
    if result.model_sha256:
        print()
        print_lines([("model", str(options.file)), ("sha256", result.model_sha256)])
    if result.program is None:
        return
    program = result.program
    print()
    print_lines(
        [
            ("program", program.file),
            ("model", program.model),
            ("model sha256", program.model_sha256),
            ("options", ", ".join(f"{name}={value}" for name, value in program.options) or "none"),
            ("engine", program.engine),
            ("head sha256", program.head),
        ]
    )
    for number, target in enumerate(program.targets):
        same = " (this device)" if target.sha256 == result.device.sha256 else ""
        print(f"\npart {number + 1}{same}")
        print_lines(target.fields())
