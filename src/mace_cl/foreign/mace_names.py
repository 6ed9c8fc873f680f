"""The names that official builds of MACE give their kernels and tuning keys, and the names they had before.

MACE keeps the first character and maps each further one by its place.  A slip in its table gives capitals the
values 4 to 29, which digits and small letters have too, so undoing is exact for small letters, digits and `_` only.
Source: ``ObfuscateSymbol`` in MACE's ``string_util.cc``.
"""

from __future__ import annotations

__all__ = ["obfuscate", "reveal"]

_OUT = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
_PLACE = {character: place for place, character in enumerate(_OUT)}
_VALUE = (
    {str(digit): digit for digit in range(10)}
    | {chr(ord("a") + letter): 10 + letter for letter in range(26)}
    | {chr(ord("A") + letter): 4 + letter for letter in range(26)}
    | {"_": 62}
)
_CLEAR = {value: character for character, value in _VALUE.items() if not character.isupper()}
_SHIFT = 31


def obfuscate(name: str) -> str:
    """The name that MACE's official builds use for ``name``: ``conv_2d_1x1`` gives ``c44CimyloKq``."""
    return name[:1] + "".join(
        _OUT[(_VALUE[character] + index + _SHIFT) % len(_OUT)] if character in _VALUE else character
        for index, character in enumerate(name[1:], 1)
    )


def reveal(name: str) -> str | None:
    """The name without capitals that `obfuscate` turns into ``name``; None if there is no such name."""
    clear = name[:1]
    for index, character in enumerate(name[1:], 1):
        if character in _PLACE:
            value = (_PLACE[character] - index - _SHIFT) % len(_OUT)
            if value not in _CLEAR:
                return None
            character = _CLEAR[value]
        clear += character
    return clear
