"""The directory of programs: names, creation, one compiler at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mace_cl.errors import StorageError
from mace_cl.program.format import Opened, read, write
from mace_cl.program.policy import examine
from mace_cl.program.program import ModelIdentity
from mace_cl.program.store import Entry, Store, Swept

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
MODEL, ENGINE = "ab" * 32, "e" * 64
OPTIONS = (("precision", "float32"), ("layout", "nchw8c"))


def test_one_path_for_each_model_options_and_engine(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.path(MODEL, OPTIONS, ENGINE)
    assert path == store.path(MODEL, OPTIONS[::-1], ENGINE)
    others = [
        store.path("ac" * 32, OPTIONS, ENGINE),
        store.path(MODEL, OPTIONS[:1], ENGINE),
        store.path(MODEL, OPTIONS, "f" * 64),
        store.path(MODEL, (("precision", "float32,layout"), ("", "nchw8c")), ENGINE),
        store.weights_path(MODEL, OPTIONS, ENGINE),
    ]
    assert len({path, *others}) == 6
    assert {other.parent for other in (path, *others)} == {tmp_path}
    assert path.name.startswith("abababababababab-")


def test_a_hostile_hash_stays_inside(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no SHA-256"):
        Store(tmp_path).path("../../../etc/passwd", OPTIONS, ENGINE)


def test_prepare(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    store.prepare()
    store.prepare()
    assert store.directory.stat().st_mode & 0o777 == 0o700
    write(SAMPLE, store.path(MODEL, OPTIONS, ENGINE))
    assert read(store.path(MODEL, OPTIONS, ENGINE)) == SAMPLE


def test_prepare_where_one_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="store of compiled programs could not be made"):
            Store(directory).prepare()


HOLD = """
import sys, time
from pathlib import Path
from mace_cl.program.store import Store
with Store(Path(sys.argv[1])).lock(Path(sys.argv[1]) / "p.bin", 5) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_one_process_holds_the_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    store, path = Store(tmp_path), tmp_path / "p.bin"
    write(SAMPLE, path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        start = time.monotonic()
        with store.lock(path, 0.2) as held:
            assert not held
        assert 0.15 < time.monotonic() - start < 5
        assert read(path) == SAMPLE, "reading needs no lock"
        other.kill()
    with store.lock(path, 5) as held:
        assert held
    with store.lock(path, 5) as held:
        assert held


def test_a_lock_that_can_not_be_made_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Store(tmp_path).lock(tmp_path / "file" / "p.bin", 0.1) as held:
        assert not held


def test_an_error_inside_the_lock_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), Store(tmp_path).lock(tmp_path / "p.bin", 1):
        raise OSError("mine")


def test_loading_does_not_import_the_lock() -> None:
    script = "import sys, mace_cl.program.store, mace_cl.program.policy; assert 'filelock' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- what is in it, and how it stays small ----


def put(store: Store, number: int, used: float, **change: object) -> Path:
    """A program of its own, last used at ``used``; 9096 bytes or more."""
    program = replace(SAMPLE, model=ModelIdentity(f"model {number}", f"{number:02x}" * 32), **change)  # type: ignore[arg-type]
    path = store.path(program.model.sha256, OPTIONS, program.engine)
    write(program, path)
    os.utime(path, (used, used))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    found.prepare()
    return found


def test_entries(store: Store) -> None:
    old, new = put(store, 1, 1000), put(store, 2, 2000)
    store.pin(old)
    broken = store.weights_path("cc" * 32, OPTIONS, ENGINE)
    broken.write_bytes(b"")
    (store.directory / "stranger.bin").write_bytes(b"")
    entries = store.entries()
    assert [entry.path for entry in entries] == [broken, new, old]
    assert "the file is empty" in entries[0].problem
    assert entries[1] == Entry(
        new, new.stat().st_size, 2000.0, False, "model 2", "02" * 32, ("AnyCL CPU", "OtherCL GPU"), ENGINE, ""
    )
    assert [entry.pinned for entry in entries] == [False, False, True]


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "missing")
    assert (store.entries(), store.verify(), store.find("ab")) == ([], [], [])
    assert store.gc(0) == store.clear() == Swept((), 0, 0)
    assert not store.directory.exists()


def test_a_store_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for use in (Store(tmp_path / "file").entries, Store(tmp_path / "file").clear):
        with pytest.raises(StorageError, match="the store can't be read"):
            use()


def test_use_is_noted_without_writing_the_program(store: Store) -> None:
    one, other = put(store, 1, 1000), put(store, 2, 2000)
    before = one.read_bytes()
    store.used(one)
    assert one.read_bytes() == before
    assert [entry.path for entry in store.entries()] == [one, other]
    assert time.time() - one.stat().st_mtime < 60
    store.used(store.directory / "gone.bin")


def test_verify_reads_every_byte(store: Store) -> None:
    good, bad = put(store, 1, 2000), put(store, 2, 1000)
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    assert [entry.problem for entry in store.entries()] == ["", ""]
    problems = {entry.path: entry.problem for entry in store.verify()}
    assert problems[good] == ""
    assert "section 4 (constants" in problems[bad]


def test_find(store: Store) -> None:
    one, other = put(store, 1, 1000), put(store, 2, 2000)
    assert store.find("01" * 32) == store.find("0101") == store.find(one.name) == [one]
    assert store.find("") == [other, one]
    assert store.find("01" * 8 + "f" * 48) == [one], "only a beginning of the hash is in the name"
    assert store.find("fe") == []


def test_pins(store: Store, tmp_path: Path) -> None:
    path = put(store, 1, 1000)
    store.pin(path)
    store.pin(path)
    assert store.gc(0).removed == ()
    store.pin(path, False)
    store.pin(path, False)
    assert store.gc(0).removed == (path,)
    for wrong in (path, tmp_path / path.name, store.directory / "stranger.bin"):
        with pytest.raises(StorageError, match="is no program in the store"):
            store.pin(wrong)


def test_a_pin_that_can_not_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store, 1, 1000)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StorageError, match=r"\.pin: can't be written \(Permission denied\)"):
        store.pin(path)


def test_gc_removes_the_least_recently_used_first(store: Store) -> None:
    paths = [put(store, number, 1000.0 * number) for number in range(1, 6)]
    size = paths[0].stat().st_size
    store.used(paths[0])
    assert store.gc(5 * size) == Swept((), 0, 5 * size)
    swept = store.gc(3 * size)
    assert swept == Swept((paths[1], paths[2]), 2 * size, 3 * size)
    assert store.gc(0, keep=[paths[4]]).removed == (paths[3], paths[0])
    assert store.gc(0).left == 0


def test_gc_removes_garbage_first(store: Store) -> None:
    mine, old_engine = put(store, 1, 1000), put(store, 2, 9000, engine="f" * 64)
    broken, aside = put(store, 3, 9001), put(store, 4, 9002)
    broken.write_bytes(b"x" * 5000)
    aside.rename(aside.with_name(aside.name + ".damaged-1"))
    everything = store.gc(1 << 30, engine=ENGINE)
    assert (everything.removed, everything.freed) == ((), 0)
    removed: list[Path] = []
    for _ in range(4):
        removed += store.gc(everything.left - 1, engine=ENGINE).removed
        everything = store.gc(1 << 30, engine=ENGINE)
    assert removed == [aside.with_name(aside.name + ".damaged-1"), broken, old_engine, mine]


def test_gc_leaves_other_engines_files_while_there_is_room(store: Store) -> None:
    put(store, 2, 9000, engine="f" * 64)
    assert store.gc(1 << 20, engine=ENGINE).removed == ()


def test_gc_removes_leftovers(store: Store) -> None:
    path = put(store, 1, 1000)
    temporaries = [store.directory / f".mace-cl-{number}-0a1b2c3d.tmp" for number in (1, 2)]
    locks = [path.with_name(path.name + ".lock"), store.path("cd" * 32, (), "").with_suffix(".bin.lock")]
    outside = [store.lock_path(store.directory.parent / name) for name in ("a.bin", "b.bin")]
    locks += [lock.with_name(lock.name + ".lock") for lock in outside]
    orphan = store.path("cd" * 32, (), "").with_suffix(".bin.pin")
    for made in (*temporaries, *locks, orphan):
        made.touch()
    for old in (temporaries[0], locks[0], locks[2]):
        os.utime(old, (1000, 1000))
    assert set(store.gc(1 << 30).removed) == {temporaries[0], locks[0], locks[2], orphan}
    assert locks[3].exists()
    assert temporaries[1].exists()
    assert locks[1].exists()
    assert path.exists()


def test_gc_leaves_a_lock_that_is_held(store: Store) -> None:
    path = put(store, 1, 1000)
    lock = path.with_name(path.name + ".lock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.replace('"p.bin"', f'"{path.name}"'), str(store.directory)],
        stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        os.utime(lock, (1000, 1000))
        assert store.gc(1 << 30).removed == ()
        other.kill()
    os.utime(lock, (1000, 1000))
    assert store.gc(1 << 30).removed == (lock,)


def test_clear_leaves_what_is_not_ours(store: Store) -> None:
    path = put(store, 1, 1000)
    store.pin(path)
    put(store, 2, 1000).rename(path.with_name(path.name + ".damaged-1"))
    path.with_name(path.name + ".lock").touch()
    (store.directory / ".mace-cl-1-0a1b2c3d.tmp").touch()
    strangers = {"notes.txt", "model.bin", "local.key", "0" * 16 + "-" + "0" * 15 + ".bin"}
    for name in strangers:
        (store.directory / name).touch()
    (store.directory / ("0" * 16 + "-" + "1" * 16 + ".bin")).mkdir()
    (store.directory / ("0" * 16 + "-" + "2" * 16 + ".bin")).symlink_to("notes.txt")
    size = path.with_name(path.name + ".damaged-1").stat().st_size
    swept = store.clear()
    assert (len(swept.removed), swept.freed, swept.left) == (5, 2 * size, 0)
    left = [entry for entry in store.directory.iterdir() if entry.is_file() and not entry.is_symlink()]
    assert {entry.name for entry in left} == strangers


def test_files_that_can_not_be_removed_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store, 1, 1000)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert store.gc(0) == Swept((), 0, path.stat().st_size)
        assert store.clear() == Swept((), 0, path.stat().st_size)


def test_others_may_delete_anything_at_any_time(store: Store) -> None:
    """Writers, readers, sweepers and a vandal at once: nobody sees an error, and nobody reads a wrong program."""
    stop = time.monotonic() + 1.5
    paths = [put(store, number, 1000) for number in range(4)]
    failures: list[BaseException] = []

    def repeat(action: Callable[[], object]) -> None:
        try:
            while time.monotonic() < stop:
                action()
        except BaseException as error:
            failures.append(error)

    def look() -> None:
        for number, path in enumerate(paths):
            found = examine(path)
            if found is None or isinstance(found, StorageError):
                continue
            assert isinstance(found, Opened), found
            found.verify()
            assert found.program.model.name == f"model {number}"
            store.used(path)

    def vandal() -> None:
        for path in list(store.directory.iterdir()):
            with suppress(OSError):
                path.unlink()
        time.sleep(0.01)

    def rewrite() -> None:
        for number in range(4):
            with suppress(StorageError, OSError):
                put(store, number, 1000)

    actions = (look, look, vandal, rewrite, store.entries, store.verify, lambda: store.gc(20000), store.clear)
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
