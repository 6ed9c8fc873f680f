"""Starts in processes of their own, to be raced, killed, and run where nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mace_cl.device import Device
from support import Case, case, difference, model_of

NET = case(
    "net", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) m = MaxPool<kernel_shape=[2,2]>(r) y = Conv(m, v)",
    x=(1, 16, 8, 8), w=(16, 16, 3, 3), b=(16,), v=(32, 16, 1, 1),
)  # fmt: skip

_SCRIPT = """
import io, json, logging, os, resource, signal, sys, time

import numpy as np

asked = json.loads(sys.argv[1])
warnings = []

class Keep(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())

logging.getLogger("mace_cl").addHandler(Keep(logging.WARNING))
from mace_cl import Runtime, compiler
from mace_cl.runtime import compile as build

compiled = []

def counted(real):
    def compile_units(*args):
        compiled.append(1)
        built = real(*args)
        if asked["file_bytes"]:  # not before, as drivers write files when they compile
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"],) * 2)
        return built
    return compile_units

build.compile_units = compiler.compile_units = counted(build.compile_units)
while asked["gate"] and not os.path.exists(asked["gate"]):
    time.sleep(0.005)

def progress(what, done, total):
    if what == asked["stop_at"]:
        os.kill(os.getpid(), signal.SIGSTOP)

runtime = Runtime(asked["source"], program=asked["program"], device=asked["device"], progress=progress)
y = runtime.run({"x": np.load(asked["x"])})["y"]
answer = io.BytesIO()  # np.save needs a place that it can seek in
np.save(answer, y)
sys.stdout.buffer.write(answer.getvalue())
sys.stdout.flush()
print(json.dumps([runtime.decision.code, warnings, len(compiled)]), file=sys.stderr)
"""


@dataclass(frozen=True)
class Started:
    """What a start said: its decision's code, its warnings, and how often it compiled."""

    code: str
    warnings: list[str]
    compiled: int


def models(folder: Path, one: Case = NET) -> Path:
    """The model, with its input beside it."""
    (folder / "net.onnx").write_bytes(model_of(one).SerializeToString())
    np.save(folder / "x.npy", one.inputs["x"])
    return folder / "net.onnx"


def begin(
    source: Path,
    device: Device | str,
    program: Path | None = None,
    *,
    gate: Path | None = None,
    stop_at: str = "",
    file_bytes: int = 0,
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    x: Path | None = None,
) -> subprocess.Popen[bytes]:
    """A process that starts ``source``, a model with its input beside it or a program, and runs it once.

    It waits for the file ``gate``, stops itself at the step ``stop_at``, and can write no file of more
    than ``file_bytes`` when all is compiled.
    """
    asked = {
        "source": str(source), "program": str(program) if program else None, "gate": str(gate or ""),
        "device": device if isinstance(device, str) else device.runtime, "stop_at": stop_at,
        "file_bytes": file_bytes, "x": str(x or source.with_name("x.npy")),
    }  # fmt: skip
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", _SCRIPT, json.dumps(asked)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(settings or {})},
    )  # fmt: skip


def end(process: subprocess.Popen[bytes], timeout: float = 300) -> Started:
    """Wait for the answer, which must be right."""
    out, said = process.communicate(timeout=timeout)
    assert process.returncode == 0, said.decode()
    import io

    assert difference(np.load(io.BytesIO(out)), NET.expected["y"]) <= 1e-5
    return Started(*json.loads(said.decode().splitlines()[-1]))


def unprivileged() -> list[str]:
    """What to put before a command so that permissions count for it: nothing, or a program that drops root's rights."""
    if os.geteuid() != 0:
        return []
    if not (setpriv := shutil.which("setpriv")):
        pytest.skip("root may write anywhere, and setpriv (util-linux) is not here to drop that right")
    rights = "-dac_override,-dac_read_search,-fowner,-chown,-sys_admin"
    return [setpriv, f"--inh-caps={rights}", f"--bounding-set={rights}"]
