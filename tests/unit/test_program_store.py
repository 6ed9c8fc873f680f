"""The directory of programs: names, creation, one compiler at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mace_cl.errors import StorageError
from mace_cl.program.format import read, write
from mace_cl.program.store import Store

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
