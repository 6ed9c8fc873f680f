"""Use the program file that is there, or compile anew: the rules, each with a code and a sentence.

The codes are the same in logs, in ``--json`` and in the documentation (docs/program-file.md):

    hit             use      made for this model, these options and this device
    no-file         compile  there is none yet
    damaged         compile  set aside first
    future-version  compile  set aside first
    not-a-program   compile  set aside first: it may be someone's only copy of something
    unreadable      compile  there is something, but it can't be read
    refused         compile  no trusted signature, or encrypted with a key that is not at hand
    other-model     compile  made from another model
    other-options   compile  made with other options
    engine-changed  compile  made by other code than this
    device-missing  compile  holds nothing for this device
    driver-changed  compile  made for this device under another driver
    bucket-missing  compile  holds this device's kernels for other shapes or parameters only
    tuned           compile  tuning has found faster kernels since the program was made
    no-weights      compile  the weights are neither inside nor at hand
    no-binaries     compile  holds this device's kernels as sources only

When the binaries are used for the first time, `mace_cl.start` may find more:

    same-gpu        use      made under another driver, and still answers right (setting reuse)
    wrong-answer    use      kernels that answered wrong are replaced by their safe variant
    driver-refused  compile  the driver did not take the binaries; a copy of the file is set aside
    driver-died     compile  the binaries ended the child process that tried them; likewise
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mace_cl.device.signature import Signature
from mace_cl.errors import (
    DamagedError,
    ForeignError,
    FutureError,
    MaceClError,
    ProgramError,
    SealError,
    StorageError,
)
from mace_cl.program.bucket import Bucket
from mace_cl.program.cipher import Key
from mace_cl.program.format import Opened, open_program
from mace_cl.program.program import Pairs, Program
from mace_cl.record import record

__all__ = [
    "COPIED",
    "SET_ASIDE",
    "Decision",
    "decide",
    "examine",
    "listed",
    "open_trusted",
    "quarantine",
    "same_device",
]

SET_ASIDE = frozenset({"damaged", "future-version", "not-a-program"})
"""Codes for which the file is renamed (`quarantine`) before another is written in its place."""

COPIED = frozenset({"driver-refused", "driver-died"})
"""Codes for which a copy of the file is kept: its other parts are good, and stay where they are."""

_KEPT = 3


@record
class Decision:
    """What to do with a program file: ``code`` for machines, ``sentence`` for people.

    ``target`` is the index of the program's part for the device where ``action`` is "use".
    """

    action: Literal["use", "compile"]
    code: str
    sentence: str
    target: int | None = None


def examine(
    path: Path, *, key: Key | None = None, trusted_keys: Sequence[str] = (), store_dir: Path | None = None
) -> Opened | MaceClError | None:
    """What `open_trusted` gives, the error that it raised, or None where there is no file: input of `decide`."""
    if not os.path.lexists(path):
        return None
    try:
        return open_trusted(path, key=key, trusted_keys=trusted_keys, store_dir=store_dir)
    except (ProgramError, StorageError) as error:
        return error


def open_trusted(
    source: Path | str | bytes | memoryview,
    *,
    key: Key | None = None,
    trusted_keys: Sequence[str] = (),
    store_dir: Path | None = None,
) -> Opened:
    """Opens a program to use it: `mace_cl.program.format.open_program`, then `mace_cl.program.seal.admit`.

    Raises:
        ProgramError, StorageError: as those two.
        SettingsError: a trusted key can't be read.
    """
    opened = open_program(source, key)
    if not trusted_keys:
        return opened
    from mace_cl.program.seal import admit

    return admit(opened, trusted_keys, store_dir)


def decide(
    found: Program | MaceClError | None,
    *,
    device: Signature,
    model: str | None = None,
    options: Pairs | None = None,
    engine: str | None = None,
    weights: bool = False,
    bucket: Bucket | None = None,
) -> Decision:
    """Decides by the table above; pure.

    Args:
        found: the program that was read, the error that reading gave, or None without a file.
        device: where it is to run.
        model: SHA-256 of the wanted model, hexadecimal; None accepts any.
        options: the wanted compile options; None accepts any.
        engine: fingerprint of this code; None accepts any.
        weights: whether prepacked weights are at hand outside the program.
        bucket: the wanted shapes and parameters; None accepts any.
    """
    if found is None:
        return _compile("no-file", "There is no compiled program yet; it is made now.")
    if isinstance(found, MaceClError):
        return _compile(_error_code(found), f"{found}")
    if model is not None and found.model.sha256 != model:
        return _compile(
            "other-model",
            f"The compiled program was made from another model ({found.model.name}, "
            f"sha256 {found.model.sha256[:12]}…, not {model[:12]}…).",
        )
    if options is not None and dict(found.options) != dict(options):
        return _compile(
            "other-options", f"The compiled program was made with other options: {_changes(found.options, options)}."
        )
    if engine is not None and found.engine != engine:
        return _compile(
            "engine-changed",
            f"The compiled program was made by other code ({found.producer}, engine {found.engine[:12]}…, "
            f"not {engine[:12]}…).",
        )
    for index, target in enumerate(found.targets):
        if target.signature == device and bucket in (None, target.bucket):
            if target.constants is None and not weights:
                return _compile("no-weights", "The weights are not inside the compiled program, nor at hand.")
            if any(unit.binary is None for unit in target.units):
                return _compile(
                    "no-binaries", f"The compiled program holds the kernels for {device.device} as sources only."
                )
            made_for = f", for {target.bucket}" if found.inputs else ""
            return Decision("use", "hit", f"The compiled program fits this model and {device.device}{made_for}.", index)
    older = [one for one in found.targets if same_device(one.signature, device) and one.signature != device]
    alike = [one for one in older if bucket in (None, one.bucket)]
    if not alike and (there := found.buckets(device)):
        return _compile(
            "bucket-missing", f"The compiled program holds {device.device} for {listed(there)}, not for {bucket}."
        )
    if older:
        changes = "; ".join(device.differences((alike or older)[0].signature))
        return _compile(
            "driver-changed", f"The compiled program was made for {device.device} under another driver: {changes}."
        )
    devices = ", ".join(dict.fromkeys(target.signature.device for target in found.targets))
    return _compile("device-missing", f"The compiled program holds parts for {devices}, none for {device.device}.")


def listed(buckets: Sequence[Bucket]) -> str:
    """Some buckets in words."""
    return "; ".join(map(str, buckets))


def _compile(code: str, sentence: str) -> Decision:
    return Decision("compile", code, sentence)


def _error_code(error: MaceClError) -> str:
    if isinstance(error, DamagedError):
        return "damaged"
    if isinstance(error, FutureError):
        return "future-version"
    if isinstance(error, SealError):
        return "refused"
    return "not-a-program" if isinstance(error, ForeignError) else "unreadable"


def _changes(found: Pairs, wanted: Pairs) -> str:
    there, here = dict(found), dict(wanted)
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    return ", ".join(f"{name} was {there.get(name, 'absent')}, now {here.get(name, 'absent')}" for name in names)


def same_device(one: Signature, other: Signature) -> bool:
    """Whether two signatures are of one device, perhaps under different drivers."""
    return (one.vendor, one.device, one.platform) == (other.vendor, other.device, other.platform)


def quarantine(path: Path, *, copy: bool = False) -> Path:
    """Renames ``path`` to its name with ``.damaged-1`` to ``.damaged-3`` added, the oldest making room.

    ``copy`` leaves the file in its place too.

    Raises:
        StorageError: the file can't be renamed or copied; it is still where it was.
    """
    places = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, _KEPT + 1)]
    try:
        free = [place for place in places if not os.path.lexists(place)]
        place = free[0] if free else min(places, key=lambda place: place.lstat().st_mtime_ns)
        if copy:
            place.unlink(missing_ok=True)
            _link(path, place)
        else:
            os.replace(path, place)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be set aside ({error.strerror or error}); delete it, or allow its directory to be "
            "written to."
        ) from error
    return place


def _link(path: Path, place: Path) -> None:
    """A second name, as files are replaced and never written into; a copy where there are no links."""
    try:
        os.link(path, place)
    except OSError:
        shutil.copyfile(path, place)
