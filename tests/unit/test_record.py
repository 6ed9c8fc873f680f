"""A `record` behaves as a frozen dataclass does."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from mace_cl.record import record


def _fields(decorate: Any) -> Any:
    @decorate
    class Item:
        """An item."""

        name: str
        sizes: tuple[int, ...] = ()
        secret: str = field(default="s", repr=False)
        handle: object = field(default=None, compare=False)
        made: list[int] = field(default_factory=list, compare=False)

        @property
        def total(self) -> int:
            return sum(self.sizes)

    return Item


Mine, Theirs = _fields(record), _fields(dataclass(frozen=True))
BOTH = pytest.mark.parametrize("item", [Mine, Theirs], ids=["record", "dataclass"])


@BOTH
def test_values(item: Any) -> None:
    one = item("a", (1, 2))
    assert (one.name, one.sizes, one.secret, one.handle, one.made, one.total) == ("a", (1, 2), "s", None, [], 3)
    assert item(name="a", sizes=(1, 2)) == one
    assert item("a", (1, 2), "s", 7, [1]) == one, "what is not compared does not count"
    assert item("b", (1, 2)) != one
    assert one != ("a", (1, 2), "s")
    assert one != (Theirs if item is Mine else Mine)("a", (1, 2))
    assert hash(item("a", (1, 2), "s", 7)) == hash(one)
    assert item("a").made is not item("a").made
    assert repr(one).endswith("Item(name='a', sizes=(1, 2), handle=None, made=[])")


@BOTH
def test_dataclass(item: Any) -> None:
    one = item("a", (1, 2))
    assert [field.name for field in fields(one)] == ["name", "sizes", "secret", "handle", "made"]
    assert replace(one, name="b") == item("b", (1, 2))
    assert asdict(one) == {"name": "a", "sizes": (1, 2), "secret": "s", "handle": None, "made": []}
    match one:
        case item(name, sizes):
            assert (name, sizes) == ("a", (1, 2))
        case _:
            pytest.fail("not matched")
    assert is_dataclass(item)


@BOTH
def test_frozen(item: Any) -> None:
    one = item("a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        one.name = "b"
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del one.name
    assert one.name == "a"


@BOTH
@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("a", (), "", None, [], 1), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})],
    ids=["too few", "too many", "twice", "unknown"],
)
def test_wrong_arguments(item: Any, values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        item(*values, **named)


def test_own_methods_stay() -> None:
    @record
    class Named:
        name: str

        def __repr__(self) -> str:
            return self.name

    assert repr(Named("n")) == "n"
