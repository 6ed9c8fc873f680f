"""Where compiled programs lie: finding them, waiting for other processes, and saving.

Nothing here ends a run: what can't be written costs one warning and the next start.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.device.signature import Signature
from mace_cl.errors import DamagedError, InputError, ModelError, ProgramError, SealError, StorageError
from mace_cl.identity import engine_fingerprint
from mace_cl.program.bucket import Bucket
from mace_cl.program.format import Opened, Signer, write
from mace_cl.program.policy import COPIED, SET_ASIDE, Decision, decide, examine, quarantine
from mace_cl.program.program import Program, Target
from mace_cl.program.proofs import proof, use
from mace_cl.program.store import Store
from mace_cl.request import Found, Request, access, proofs
from mace_cl.settings import Settings

if TYPE_CHECKING:
    from mace_cl.program.cipher import Key

__all__ = [
    "alone", "check_no_model", "is_kept", "look", "looked_again", "place_beside", "place_of", "save", "save_weights",
    "signer", "stamp_beside", "stored_weights", "verified",
]  # fmt: skip

logger = logging.getLogger("mace_cl")

_LOCK_SECONDS = 600.0
_STALE_SECONDS = 3600.0


def place_of(request: Request, given: Opened | None) -> Path | None:
    """The file that a start reads and writes; None where nothing is kept."""
    if given is not None:
        return Path(given.name) if os.path.isfile(given.name) else place_beside(request, given)
    if request.program is not None or not request.settings.store:
        return request.program
    assert request.identity is not None
    return Store(request.settings.store_dir).path(request.identity.sha256, request.options, engine_fingerprint())


def place_beside(request: Request, opened: Opened) -> Path | None:
    """Where the store keeps the parts that a given program lacks and that can't be added to it."""
    if not request.settings.store or is_kept(request.settings, opened.name):
        return None
    program = opened.program
    keyed = (*program.options, ("program", hashlib.sha256(opened.message()).hexdigest()))
    return Store(request.settings.store_dir).path(program.model.sha256, keyed, program.engine)


def is_kept(settings: Settings, name: str | Path) -> bool:
    """Whether a file lies in the store."""
    return Path(name).parent == settings.store_dir


def look(path: Path | None, request: Request) -> Found:
    """What is at ``path``, opened as the request allows."""
    return None if path is None else examine(path, **access(request.settings))


def verified(found: Found) -> Found:
    """The same, or the damage if an opened program does not stand a check of every byte."""
    if isinstance(found, Opened):
        try:
            found.verify()
        except DamagedError as error:
            return error
    return found


def check_no_model(path: Path) -> None:
    """A model is neither set aside for a compiled program nor written over: it was named by mistake.

    Raises:
        InputError: there is one.
    """
    from mace_cl.frontends.formats import opened, recognise

    try:
        with opened(path) as view:
            form = recognise(view)
    except ModelError:  # nothing there, or nothing that can be read
        return
    if form is not None:
        raise InputError(
            f"{path}: looks like a model ({form.title}), and stays as it is; name another file for the compiled program"
        )


def looked_again(request: Request, path: Path | None, given: Opened | None, found: Found) -> Found:
    """``found`` itself, unless another process has replaced the file since it was read.

    A given program stays where what is there now is none.
    """
    if path is None or (given is not None and path != Path(given.name)):
        return found
    later = look(path, request)
    if isinstance(later, Opened):
        return found if isinstance(found, Opened) and found.message() == later.message() else later
    return found if given is not None or str(found) == str(later) else later


def stamp_beside(request: Request, found: Found) -> tuple[int, int, int] | None:
    """Changes when what is kept beside a program is replaced."""
    path = place_beside(request, found) if isinstance(found, Opened) else None
    try:
        status = os.stat(path) if path is not None else None
    except OSError:
        status = None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status else None


@contextmanager
def alone(request: Request, path: Path | None) -> Iterator[Path | None]:
    """Where this process may write: ``path``, as soon as no other process is about to, or None."""
    settings = request.settings
    if path is None or not settings.store:
        yield path
        return
    store, kept = Store(settings.store_dir), is_kept(settings, path)
    try:
        store.prepare()
    except StorageError as error:
        if kept:
            logger.warning("%s The program is not kept; this run goes on.", error)
        yield None if kept else path
        return
    with store.lock(path if kept else store.lock_path(path), _LOCK_SECONDS) as alone:
        if kept and not alone:
            logger.warning(
                "%s: can't be written, or another process has been at it for %.0f s. The program is not kept; "
                "this run goes on.", path, _LOCK_SECONDS,
            )  # fmt: skip
        yield None if kept and not alone else path


def save(request: Request, target: Target, path: Path | None, found: Found, empty: Program, decision: Decision) -> None:
    """Add ``target`` to the file at ``path``, or, where that has to stay as it is, to what is kept beside it.

    Where nothing can be written there is one warning, and nothing else.  ``empty`` is what the file
    becomes where none is there that fits.
    """
    from mace_cl.program.seal import may_rewrite

    settings, key = request.settings, None
    proofs(settings).record(proof(target, request.device.signature))
    if request.inputs:
        proofs(settings).record(use(proof(target, target.signature), target.bucket))
    if path is None:
        return
    try:
        if isinstance(found, Opened):
            aside = place_beside(request, found)
            if not is_kept(settings, path) and not may_rewrite(path, settings.store_dir):
                logger.warning(
                    "%s is signed or encrypted by its maker, and stays as it is; the part made for %s is %s.",
                    path, request.device.name, "not kept" if aside is None else f"kept as {aside}",
                )  # fmt: skip
                path = aside
                if path is None:
                    return
            if path == aside:
                Store(settings.store_dir).prepare()
                empty = replace(found.program, targets=())
            if is_kept(settings, path) and found.manifest.key:
                key = found.key
        _add(request, target, path, empty, decision, key)
    except (StorageError, SealError) as error:
        logger.warning("%s The program is not kept; this run goes on.", error)
    request.clock.mark("save")


def _add(request: Request, target: Target, path: Path, empty: Program, decision: Decision, key: Key | None) -> None:
    """Read the file anew, as another process may have added to it, and replace it."""
    from mace_cl.program.edit import add_target

    settings, base = request.settings, empty
    there = verified(look(path, request))
    if isinstance(there, Opened):
        held = there.program
        if (held.model.sha256, dict(held.options), held.engine) == (
            empty.model.sha256,
            dict(empty.options),
            empty.engine,
        ):
            base = held
        if decision.code in COPIED:
            logger.warning("The file is kept as %s.", quarantine(path, copy=True))
    elif there is not None and decide(there, device=request.device.signature).code in SET_ASIDE:
        logger.warning("%s It is kept as %s.", there, quarantine(path))
    known, now = proofs(settings), time.time_ns()
    live = {bucket: now + place for place, (bucket, _) in enumerate(request.live)}
    for most in (settings.buckets, 1):
        program = add_target(
            base, target, buckets=most, budget=settings.store_budget,
            last_use=lambda one: live.get(one.bucket) or known.last_use(use(proof(one, one.signature), one.bucket)),
        )  # fmt: skip
        try:
            write(program, path, key=key, signer=signer(settings))
        except StorageError:  # all buckets may not fit a file together
            if most == 1 or len(program.buckets()) < 2:
                raise
        else:
            break
    logger.info("Later starts on %s load %s.", request.device.name, path)
    _sweep(settings, path)


def save_weights(settings: Settings, program: Program) -> None:
    """Keep the prepacked weights of a program's one part in the store."""
    if not settings.store:
        return
    try:
        Store(settings.store_dir).prepare()
        path = _weights_path(settings, program, program.targets[0].signature, program.targets[0].bucket)
        write(program, path, signer=signer(settings))
        _sweep(settings, path)
    except (StorageError, SealError) as error:
        logger.warning("%s The weights are not kept; the next start packs them again.", error)


def stored_weights(
    settings: Settings, program: Program, signature: Signature, bucket: Bucket | None
) -> memoryview | None:
    """Prepacked weights for an unbaked program's part for ``signature`` and ``bucket``, from the store."""
    if not settings.store or all(target.constants is not None for target in program.targets):
        return None
    found = examine(_weights_path(settings, program, signature, bucket), **access(settings))
    if not isinstance(found, Opened):
        return None
    try:
        found.verify()
    except ProgramError:
        return None
    return found.program.targets[0].constants


def _weights_path(settings: Settings, program: Program, signature: Signature, bucket: Bucket | None) -> Path:
    keyed = (*program.options, ("device", signature.digest()))
    if program.inputs and bucket is not None:
        keyed = (*keyed, ("bucket", bucket.digest()))
    return Store(settings.store_dir).weights_path(program.model.sha256, keyed, program.engine)


def signer(settings: Settings) -> Signer | None:
    """Signs what is compiled here, where only signed programs are used: else the next start would refuse it."""
    if not settings.trusted_keys or not settings.store:
        return None
    from mace_cl.program.seal import local_signer

    Store(settings.store_dir).prepare()
    return local_signer(settings.store_dir)


def _sweep(settings: Settings, path: Path) -> None:
    """After ``path`` was written: keep the store within its budget, and remove what killed processes left."""
    with suppress(OSError, StorageError):
        if settings.store:  # the lock of a file outside lies there too
            Store(settings.store_dir).gc(settings.store_budget, engine=engine_fingerprint(), keep=[path])
        if is_kept(settings, path):
            return
        before = time.time() - _STALE_SECONDS
        for left in path.parent.glob(".mace-cl-*.tmp"):
            if left.lstat().st_mtime < before:
                left.unlink()
