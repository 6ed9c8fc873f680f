"""``mace-cl devices``."""

from __future__ import annotations

import argparse

from mace_cl.cli.options import Verbs, add_device, add_json, add_verb

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "devices",
        _run,
        "List OpenCL devices. Each is shown with the reason why it is usable or not; → marks the one that is chosen.\n"
        "The exit code is 6 where none fits.",
        "  mace-cl devices\n"
        "  mace-cl devices --device gpu      (which one would `--device gpu` mean?)\n"
        "  mace-cl devices --json",
    )
    add_device(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_table
    from mace_cl.errors import DeviceError
    from mace_cl.tools import devices

    result = devices.run(devices.DevicesArgs(options.device))
    if options.json:
        print_json(result)
    elif result.devices:
        rows = [
            (
                "→" if found.index == result.chosen else "",
                str(found.index),
                found.runtime,
                found.kind if found.platform else "",
                found.name,
                found.driver,
                found.reason,
            )
            for found in result.devices
        ]
        print_table(("", "#", "runtime", "kind", "device", "driver", "state"), rows, numbers=(1,))
    if result.problem:
        raise DeviceError(result.problem)
