"""The store of compiled programs: what is in it, whether it is whole, why it is used, and making room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError

if TYPE_CHECKING:
    from mace_cl.program.store import Entry, Store, Swept

__all__ = ["ListResult", "Reason", "WhyResult", "clear", "gc", "list_", "path", "pin", "verify", "why"]


@dataclass(frozen=True)
class ListResult:
    """The programs, the most recently used first; what they take and may take, in bytes."""

    directory: Path
    entries: tuple[Entry, ...]
    bytes: int
    budget: int


@dataclass(frozen=True)
class Reason:
    """What a start would do with a file, and why: see `mace_cl.program.policy` for the codes."""

    path: Path
    action: str
    code: str
    sentence: str


@dataclass(frozen=True)
class WhyResult:
    """The device that was asked about, and a reason for each program that there is."""

    device: str
    reasons: tuple[Reason, ...]


def path() -> Path:
    """The store's directory, which need not exist."""
    return _store().directory


def list_() -> ListResult:
    """All programs; raises `StorageError` where the directory can't be read."""
    return _listed(_store().entries())


def verify() -> ListResult:
    """As `list_`, with every byte checked: ``problem`` of an entry tells what is wrong with it."""
    return _listed(_store().verify())


def gc(budget: str | None = None) -> Swept:
    """Removes leftovers, and what is beyond the budget; raises as `mace_cl.program.store.Store.gc`."""
    from mace_cl.identity import engine_fingerprint
    from mace_cl.settings import Settings

    settings = Settings.load(store_budget=budget)
    return _store().gc(settings.store_budget, engine=engine_fingerprint())


def clear() -> Swept:
    """Removes every program; raises `StorageError` where the directory can't be read."""
    return _store().clear()


def pin(names: tuple[str, ...], pinned: bool = True) -> tuple[Path, ...]:
    """Keeps programs from being removed by `gc`, or no longer.

    ``names`` are models, or beginnings of file names in the store.

    Raises:
        InputError: a name fits no program.
        StorageError: the store can't be written to.
    """
    store = _store()
    found = [path for name in names for path in _found(store, name)]
    for one in found:
        store.pin(one, pinned)
    return tuple(found)


def why(name: str, device: str | None = None) -> WhyResult:
    """What a start on ``device`` would do with a program file, or with what the store has for a model.

    Nothing is compiled or run, and nothing changed.

    Raises:
        InputError: ``name`` is no file, and no program in the store begins with it.
        DeviceError: no device fits.
        ModelError, SettingsError, StorageError: something can't be read.
    """
    from mace_cl.device import find
    from mace_cl.errors import MaceClError
    from mace_cl.identity import engine_fingerprint, model_sha256
    from mace_cl.program.format import Opened, is_program
    from mace_cl.program.policy import decide, examine
    from mace_cl.settings import Settings

    settings, store = Settings.load(device=device), _store()
    chosen = find(settings.device)
    file = Path(name)
    model = None
    if file.is_file() and not is_program(_head(file)) and file.parent.absolute() != store.directory:
        model = model_sha256(file)
    places = [file] if file.is_file() and model is None else _programs(store, model or name)
    if not places and model is None:
        raise InputError(f"{name}: no such file, and no program in {store.directory} begins with it; check the path")

    def reason(place: Path) -> Reason:
        found = examine(place, key=settings.key, trusted_keys=settings.trusted_keys, store_dir=settings.store_dir)
        if isinstance(found, Opened):
            try:
                found.verify()
            except MaceClError as error:
                found = error
        opened = found if isinstance(found, Opened) else None
        weights = bool(model or (opened and _weights(store, opened.program.model.sha256)))
        decision = decide(
            opened.program if opened else found,  # type: ignore[arg-type]
            device=chosen.signature, model=model, engine=engine_fingerprint() if model else None, weights=weights,
        )  # fmt: skip
        return Reason(place, decision.action, decision.code, decision.sentence)

    if not places:
        nothing = decide(None, device=chosen.signature)
        return WhyResult(chosen.name, (Reason(store.directory, nothing.action, nothing.code, nothing.sentence),))
    return WhyResult(chosen.name, tuple(map(reason, places)))


def _store() -> Store:
    from mace_cl.program.store import Store
    from mace_cl.settings import Settings

    return Store(Settings.load().store_dir)


def _listed(entries: list[Entry]) -> ListResult:
    from mace_cl.settings import Settings

    settings = Settings.load()
    return ListResult(settings.store_dir, tuple(entries), sum(one.bytes for one in entries), settings.store_budget)


def _found(store: Store, name: str) -> list[Path]:
    from mace_cl.identity import model_sha256

    file = Path(name)
    inside = file.parent.absolute() == store.directory
    found = store.find(file.name if inside else model_sha256(file) if file.is_file() else name)
    if not found or not name:
        raise InputError(f"{name}: fits no program in {store.directory}; `mace-cl store ls` lists them")
    return found


def _programs(store: Store, name: str) -> list[Path]:
    return [path for path in store.find(name) if name and not path.name.endswith(".weights.bin")]


def _weights(store: Store, sha256: str) -> bool:
    return any(path.name.endswith(".weights.bin") for path in store.find(sha256))


def _head(file: Path) -> bytes:
    with file.open("rb") as handle:
        return handle.read(16)
