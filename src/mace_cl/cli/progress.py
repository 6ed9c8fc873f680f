"""Progress on standard error: a bar where somebody looks, else a line for each step."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_cl.tune.search import State

__all__ = ["Steps"]

_SAY_SECONDS = 10.0


class Steps:
    """A progress callable, to be used as a context; it imports rich only when it is called."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._what = ""
        self._said = 0.0

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._quiet:
            return
        new, self._what = what != self._what, what
        if not sys.stderr.isatty():
            if new:
                print(f"mace-cl: {what}", file=sys.stderr, flush=True)
            return
        if self._bar is None:
            self._bar = _bar()
        if new:
            if self._task is not None:
                self._bar.stop_task(self._task)
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def watch(self, state: State) -> None:
        """How far a tuning is."""
        if self._quiet:
            return
        saved = 100 * (1 - state.now / state.before) if state.before else 0.0
        more = 100 * state.hope / state.now if state.now else 0.0
        text = f"tuning: {state.measured} tried, {saved:.1f} % saved, {more:.1f} % hoped for, at {state.what}"
        if not sys.stderr.isatty():
            if state.elapsed >= self._said + _SAY_SECONDS:
                self._said = state.elapsed
                print(f"mace-cl: {text}, {state.left:.0f} s left", file=sys.stderr, flush=True)
            return
        done, total = round(state.elapsed), round(state.elapsed + state.left)
        self("tuning", done, total)
        self._bar.update(self._task, description=text, completed=done, total=total)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.start()
    return progress
