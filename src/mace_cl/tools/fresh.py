"""Processes that find no cache filled: how a start on a new machine is measured on one that is not new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mace_cl import errors
from mace_cl.tools.common import Progress

__all__ = ["PACKAGE_ROOT", "environment", "run"]

PACKAGE_ROOT = str(Path(__file__).parents[2])

# where drivers keep what they compiled: PoCL, NVIDIA, Intel's GPUs, Mesa
_DRIVER_CACHES = ("POCL_CACHE_DIR", "CUDA_CACHE_PATH", "NEO_CACHE_DIR", "MESA_SHADER_CACHE_DIR")
_START = f"import sys; sys.path.insert(0, {PACKAGE_ROOT!r}); from mace_cl.cli import main; sys.exit(main())"


@contextmanager
def environment(store: Path | None = None) -> Iterator[dict[str, str]]:
    """Variables for a child process with empty caches of drivers, and ``store``, else an empty one, as its store."""
    with tempfile.TemporaryDirectory(prefix="mace-cl-cache-") as cache:
        own = dict.fromkeys((*_DRIVER_CACHES, "MACE_CL_STORE_DIR"), cache)
        yield os.environ | own | ({"MACE_CL_STORE_DIR": str(store)} if store else {})


def run(arguments: Sequence[str], store: Path, progress: Progress | None = None) -> dict[str, Any]:
    """What ``mace-cl ARGUMENTS --json`` prints in a process of its own that finds drivers' caches empty.

    Raises:
        MaceClError: the one that the process ended with.
    """
    command, words = [sys.executable, "-c", _START, *arguments, "--json"], [""]
    with environment(store) as variables, tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        with subprocess.Popen(
            command, env=variables, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as process:
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    words.append(line.strip().removeprefix("mace-cl: "))
                    if progress is not None and words[-1][:1].islower():  # what is being done; sentences are notes
                        progress(words[-1], 0, 1)
                code = process.wait()
            finally:
                process.kill()
        if code:
            raise _error(code)(words[-1].removeprefix("error: ") or f"mace-cl {arguments[0]} ended with {code}")
        out.seek(0)
        answer: dict[str, Any] = json.load(out)
        return answer


def _error(code: int) -> type[errors.MaceClError]:
    """The first error of that exit code."""
    known = (errors.InputError, errors.ModelError, errors.ProgramError, errors.DeviceError, errors.BuildError,
             errors.StorageError)  # fmt: skip
    exact = {one.exit_code: one for one in known} | {4: errors.UnsupportedError}
    return exact.get(code, errors.MaceClError)
