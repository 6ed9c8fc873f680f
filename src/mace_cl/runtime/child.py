"""Starting this package's own helpers as child processes, and asking them one question."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["Child", "ChildError", "answer", "question"]

_ROOT = str(Path(__file__).parents[2])


class ChildError(Exception):
    """The child gave no answer; the message says how it ended and its last words."""


class Child:
    """``module.function`` in a new interpreter: one line of JSON in, one line of JSON out."""

    def __init__(self, module: str, function: str) -> None:
        start = f"import sys; sys.path.insert(0, {_ROOT!r}); from {module} import {function}; {function}()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, request: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """The answer; may be called from a thread of its own.

        Raises:
            ChildError: the child ended without an answer, or took longer than ``timeout`` seconds.
        """
        try:
            output, errors = self._process.communicate(json.dumps(request) + "\n", timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ChildError(f"it gave no answer in {timeout:.0f} s") from None
        answer = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
        if answer is None:
            code, words = self._process.returncode, " / ".join(errors.strip().splitlines()[-3:])
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ChildError(f"{how}{': ' + words if words else ''}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def kill(self) -> None:
        """End the child if it still runs."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()


def answer(reply: dict[str, Any]) -> None:
    """What a child says."""
    print(json.dumps(reply), flush=True)


def question() -> dict[str, Any]:
    """What a child was asked."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    return asked
