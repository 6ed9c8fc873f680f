"""Starting this package's own helpers as child processes, and asking them one question or several.

A question is a line of JSON, followed by bytes if there are any; the child says lines of JSON: any
number of reports, then the answer.  Nothing is left on the disk when either is killed, and a child ends
when the process that started it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

__all__ = ["Answer", "Child", "ChildError", "Report", "converse", "serve"]

Report = Callable[[dict[str, Any]], None]
"""Called with what a child says before its answer."""

Answer = Callable[[dict[str, Any], list[bytes], Report], dict[str, Any]]
"""What a child runs: it takes a question, the bytes after it and somewhere to report to."""


_VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # else ONNX Runtime keeps telemetry on the disk
    "OPENBLAS_NUM_THREADS": "1",  # else NumPy's threads spin for 0.1 s after its import
}


class ChildError(Exception):
    """The child gave no answer; the message says how it ended and its last words."""


class Child:
    """``module.function`` in a new interpreter, which finds modules where this one does.

    With ``several`` questions, ``function`` is called once, without arguments, and gives what answers them.
    """

    def __init__(self, module: str, function: str, *, several: bool = False) -> None:
        answer = "converse" if several else "serve"
        start = (
            f"import os, sys; os.environ.update({_VARIABLES!r}); "
            f"sys.path[:] = {sys.path!r}; from mace_cl.child import {answer}; "
            f"from {module} import {function}; {answer}({function})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._words: deque[str] = deque(maxlen=3)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def ask(
        self,
        request: dict[str, Any],
        blobs: Sequence[bytes | memoryview] = (),
        *,
        timeout: float | None = None,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """The answer; may be called from a thread of its own.

        Raises:
            ChildError: the child ended without an answer, or took longer than ``timeout`` seconds.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout or 0, end)
        try:
            if timeout is not None:
                timer.start()
            return self._asked({**request, "blobs": [len(blob) for blob in blobs]}, blobs, report)
        except EOFError:
            code = self._process.wait()
            if late.is_set():
                raise ChildError(f"it gave no answer in {timeout:.0f} s") from None
            self._listening.join(1.0)
            words = " / ".join(self._words)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ChildError(f"{how}{': ' + words if words else ''}") from None
        finally:
            timer.cancel()

    def _asked(
        self, request: dict[str, Any], blobs: Sequence[bytes | memoryview], report: Report | None
    ) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # it died while it was spoken to
            for part in (json.dumps(request).encode() + b"\n", *blobs):
                self._process.stdin.write(part)
            self._process.stdin.flush()
            for line in self._process.stdout:
                said: dict[str, Any] = json.loads(line)
                if said["final"]:
                    return said
                if report is not None:
                    report(said)
        raise EOFError

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text := line.decode(errors="replace").strip():
                self._words.append(text)

    def kill(self) -> None:
        """End the child if it still runs."""
        self._process.kill()
        self._process.wait()
        self._listening.join(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what could not be written to it
                stream.close()
        if not self._listening.is_alive():
            assert self._process.stderr is not None
            self._process.stderr.close()


def serve(function: Answer) -> None:
    """In the child: answer one question by ``function``, and end without a driver's last words.

    What drivers print goes to standard error.
    """
    _answer(function, once=True)


def converse(make: Callable[[], Answer]) -> None:
    """In the child: answer questions by what ``make`` gives, until there are no more."""
    _answer(make(), once=False)


def _answer(function: Answer, once: bool) -> None:
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def say(final: bool, said: dict[str, Any]) -> None:
            out.write(json.dumps({**said, "final": final}) + "\n")
            out.flush()

        questions: SimpleQueue[tuple[dict[str, Any], list[bytes]]] = SimpleQueue()
        threading.Thread(target=_hear, args=(questions,), daemon=True).start()
        try:
            while True:
                asked, blobs = questions.get()
                say(True, function(asked, blobs, lambda said: say(False, said)))
                del asked, blobs
                if once:
                    os._exit(0)
        except BaseException:  # the thread that reads must not live on while the interpreter ends
            import traceback

            traceback.print_exc()
            os._exit(1)


def _hear(questions: SimpleQueue[tuple[dict[str, Any], list[bytes]]]) -> None:
    """Read questions until the process that asks closes its end, and then end this one."""
    source = sys.stdin.buffer
    try:
        while line := source.readline():
            asked: dict[str, Any] = json.loads(line)
            questions.put((asked, [source.read(size) for size in asked["blobs"]]))
    finally:
        os._exit(1)
