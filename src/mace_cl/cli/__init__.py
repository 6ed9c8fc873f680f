"""The command line: each verb parses, calls a function of `mace_cl.tools`, and shows the result.

It is argparse that parses, as a start must be light: the alternatives take 50 to 150 ms to import.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()
"""When the command line began to be imported, in seconds of `time.perf_counter`."""

from mace_cl.cli.app import main  # noqa: E402

__all__ = ["STARTED", "main"]
