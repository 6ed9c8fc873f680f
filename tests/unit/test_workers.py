"""Processes that begin to compile before there is something to compile."""

from __future__ import annotations

from typing import Any

import pytest

from mace_cl.runtime import compile as compiling
from mace_cl.runtime.compile import Workers


class Child:
    """What is begun and ended, in place of a process."""

    begun: list[Child]

    def __init__(self, *_: str, several: bool) -> None:
        self.ended = False
        self.begun.append(self)

    def kill(self) -> None:
        self.ended = True


def test_those_that_nobody_took_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Child] = []
    monkeypatch.setattr(Child, "begun", begun, raising=False)
    monkeypatch.setattr(compiling, "Child", Child)
    with Workers(3) as workers:
        assert len(begun) == 3
        taken: list[Any] = list(workers.take(2))
        assert len(begun) == 3
    assert sorted(one.ended for one in begun) == [False, False, True]
    assert not any(one.ended for one in begun if one in taken)


def test_new_ones_begin_where_too_few_have(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Child] = []
    monkeypatch.setattr(Child, "begun", begun, raising=False)
    monkeypatch.setattr(compiling, "Child", Child)
    with Workers(1) as workers:
        taken: list[Any] = list(workers.take(3))
    assert taken == begun
    assert len(begun) == 3
    assert not any(one.ended for one in begun)
