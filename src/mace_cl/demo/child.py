"""A process of the demonstration: times one start, or asks ONNX Runtime for its answers.

It gets a request as JSON in its last argument, and prints lines of JSON: progress, and at last the
answer.  ``started`` and ``first_output`` are on the clock of `time.monotonic`, which all processes
of a machine share, so that the parent can measure from before the process began.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_LATENCY_RUNS = 200
_LATENCY_SECONDS = 1.5


def main() -> int:
    """Serve the request in the last argument."""
    request = json.loads(sys.argv[-1])
    answer = _reference(request) if request["do"] == "reference" else _start(request)
    print(json.dumps({"answer": answer}), flush=True)
    return 0


def _start(request: dict[str, Any]) -> dict[str, Any]:
    """Start on a model, writing the program, or on a program; first output, then latency, then all answers.

    ``inputs`` is a .npy file whose rows are inputs of batch 1; without ``outputs``, a file for the
    answers, the process ends after its first output.
    """
    import numpy as np

    from mace_cl.device import find_same
    from mace_cl.engine import Runtime
    from mace_cl.errors import MaceClError

    try:
        rows = np.load(request["inputs"], mmap_mode="r", allow_pickle=False)
        device = find_same(request["device"], request["signature"])
        cold = request["do"] == "cold"
        with Runtime(
            Path(request["model" if cold else "program"]),
            program=request["program"] if cold else None,
            device=device,
            store=False,
            progress=_report if cold else None,
        ) as runtime:
            name = runtime.inputs[0].name
            runtime.run({name: rows[:1]})
            answer = {"first_output": time.monotonic(), "code": runtime.decision.code,
                      "sentence": runtime.decision.sentence, "timings": runtime.timings}  # fmt: skip
            if request.get("outputs"):
                answer["latency"] = _latency(lambda: runtime.run({name: rows[:1]}))
                np.save(request["outputs"], _answers(lambda row: runtime.run({name: row}), rows))
        return answer
    except MaceClError as error:
        return {"error": type(error).__name__, "message": str(error)}


def _latency(run: Any) -> list[float]:
    """Seconds of each of many runs."""
    seconds: list[float] = []
    end = time.perf_counter() + _LATENCY_SECONDS
    while len(seconds) < _LATENCY_RUNS and (len(seconds) < 3 or time.perf_counter() < end):
        before = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - before)
    return seconds


def _answers(run: Any, rows: Any) -> Any:
    """The first output for each row."""
    import numpy as np

    return np.concatenate([next(iter(run(rows[index : index + 1]).values())) for index in range(len(rows))])


def _reference(request: dict[str, Any]) -> dict[str, Any]:
    """ONNX Runtime's answers."""
    import numpy as np

    try:
        import onnxruntime
    except ImportError:
        return {"version": None}
    rows = np.load(request["inputs"], allow_pickle=False)
    session = onnxruntime.InferenceSession(request["model"], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    np.save(request["outputs"], _answers(lambda row: {"": session.run(None, {name: row})[0]}, rows))
    return {"version": onnxruntime.__version__}


def _report(what: str, done: int, total: int) -> None:
    print(json.dumps({"progress": [what, done, total]}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
