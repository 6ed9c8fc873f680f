"""MACE's tuned-parameter file: for each kernel and size, how work-groups are laid out.

A key is the kernel's name and the sizes it was tuned for, joined by ``_``; official builds obfuscate it as a whole.
The value has the local sizes and, last, the slices in which the kernel is enqueued (0: all at once).
"""

from __future__ import annotations

import re

from mace_cl.foreign import mace_store
from mace_cl.foreign.mace_names import reveal
from mace_cl.foreign.notes import Facts, Format, Notes, printable

__all__ = ["FORMAT", "tuning_facts"]

QUEUE_KEY = "MACE_OPENCL_QUEUE_WINDOW_SIZE"
_SIZES = re.compile(r"_+(\d+|\[\d+(?:, \d+)*\])\Z")


def _sniff(view: memoryview) -> bool:
    store, _ = mace_store.glimpse(view)
    return store is not None and store.is_tuning


def _read(view: memoryview, notes: Notes) -> None:
    store, problems = mace_store.glimpse(view)
    if store is None:
        return
    notes.problems.extend(problems)
    notes.spend(len(store.pairs))
    notes.fact("layout", mace_store.LAYOUTS[store.layout])
    if store.layout == "protobuf":
        notes.fact("crc32", f"{int.from_bytes(view[-4:], 'little'):08x}")
    kernels = 0
    for pair in store.pairs:
        numbers = pair.as_numbers()
        if pair.key == QUEUE_KEY:
            notes.fact("queue window", numbers[0] if numbers else 0)
            continue
        kernels += 1
        notes.part(printable(pair.key, 512), pair.offset, pair.length, tuning_facts(pair.key, numbers))
    notes.fact("kernels", kernels)


def tuning_facts(key: str, numbers: tuple[int, ...]) -> Facts:
    """What an entry tells: kernel, sizes, local work-group, slices; names undone where they are obfuscated."""
    clear, names = key, "plain"
    if any(character.isupper() for character in key) and (revealed := reveal(key)) is not None:
        clear, names = revealed, "obfuscated"
    kernel, sizes = clear, list[str]()
    while len(kernel) <= 512 and len(sizes) < 16 and (found := _SIZES.search(kernel)):
        sizes.insert(0, found[1])
        kernel = kernel[: found.start()]
    facts: list[tuple[str, str]] = [("kernel", printable(kernel)), ("names", names)]
    if sizes:
        facts.append(("sizes", " ".join(sizes)))
    if len(numbers) in (3, 4):
        facts.append(("local work-group", " x ".join(map(str, numbers[:-1]))))
        facts.append(("enqueued", f"in slices of {numbers[-1]}" if numbers[-1] else "at once"))
    else:
        facts.append(("numbers", " ".join(map(str, numbers[:64]))))
    return tuple(facts)


FORMAT = Format("mace-tuning", "tuned parameters of MACE", _sniff, _read)
