"""Disks that are full, places that can't be written: the run goes on with one warning, and nothing is truncated."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import mace_cl
from mace_cl.device import Device
from mace_cl.program.format import read, write
from starts import begin, end, models, unprivileged

STRANGER = 12345


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models(tmp_path)


@pytest.fixture(scope="module")
def elsewhere(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program of the model that has no part for this device."""
    folder = tmp_path_factory.mktemp("elsewhere")
    mace_cl.compile(models(folder), folder / "net.bin", device=device, bake=True, store=False)
    program = read(folder / "net.bin")
    (target,) = program.targets
    other = replace(target, signature=replace(target.signature, device="Elsewhere"))
    write(replace(program, targets=(other,)), folder / "net.bin")
    return (folder / "net.bin").read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs takes root's rights")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Fill a disk but for ``leave`` bytes."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - leave))


def warned_once(model: Path, device: Device, program: Path | None, code: str, **options: object) -> str:
    """Start twice: both answer right, with one warning each."""
    said = ""
    for _ in range(2):
        found = end(begin(model, device, program, **options))  # type: ignore[arg-type]
        assert found.code == code
        assert len(found.warnings) == 1, found.warnings
        said = found.warnings[0]
    assert "not kept" in said
    return said


class TestFullDisk:
    @pytest.mark.parametrize("leave", [0, 4096, 16384])
    def test_named_file(self, model: Path, device: Device, disk: Path, leave: int) -> None:
        fill(disk, leave)
        said = warned_once(model, device, disk / "net.bin", "no-file")
        assert "No space left on device" in said
        assert os.listdir(disk) == ["filler"]

    @pytest.mark.parametrize("leave", [0, 8192])
    def test_named_file_of_another_device(
        self, model: Path, device: Device, disk: Path, elsewhere: bytes, leave: int
    ) -> None:
        (disk / "net.bin").write_bytes(elsewhere)
        fill(disk, leave)
        warned_once(model, device, disk / "net.bin", "device-missing")
        assert (disk / "net.bin").read_bytes() == elsewhere
        assert sorted(os.listdir(disk)) == ["filler", "net.bin"]

    @pytest.mark.parametrize("leave", [0, 8192])
    def test_program_alone(self, model: Path, device: Device, disk: Path, elsewhere: bytes, leave: int) -> None:
        (disk / "net.bin").write_bytes(elsewhere)
        fill(disk, leave)
        found = end(begin(disk / "net.bin", device, x=model.with_name("x.npy")))
        assert found.code == "device-missing"
        assert (disk / "net.bin").read_bytes() == elsewhere

    @pytest.mark.parametrize("leave", [0, 4096, 16384])
    def test_store(self, model: Path, device: Device, disk: Path, leave: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next model loads all the same, and what is in the store stays usable."""
        monkeypatch.setenv("MACE_CL_STORE_DIR", str(disk / "store"))
        fill(disk, leave)
        warned_once(model, device, None, "no-file")
        assert not list(disk.rglob("*.bin"))
        assert not list(disk.rglob("*.tmp"))
        (disk / "filler").unlink()
        assert [end(begin(model, device)).code for _ in range(2)] == ["no-file", "hit"]
        fill(disk, 0)
        assert end(begin(model, device)).code == "hit"

    def test_damaged_file_on_a_full_disk(self, model: Path, device: Device, disk: Path, elsewhere: bytes) -> None:
        """It is set aside, which takes no room; nothing else is lost."""
        (disk / "net.bin").write_bytes(elsewhere[:-1])
        fill(disk, 0)
        found = end(begin(model, device, disk / "net.bin"))
        assert found.code == "damaged"
        assert (disk / "net.bin.damaged-1").read_bytes() == elsewhere[:-1]

    def test_any_size_at_which_writing_stops(
        self, model: Path, device: Device, tmp_path: Path, elsewhere: bytes
    ) -> None:
        """No root's rights needed: the operating system limits the size of a file."""
        path = tmp_path / "files" / "net.bin"
        path.parent.mkdir()
        for limit in (1, 63, 1000, 4096, 8000, len(elsewhere) // 2):
            path.write_bytes(elsewhere)
            found = end(begin(model, device, path, file_bytes=limit))
            assert found.code == "device-missing"
            assert len(found.warnings) == 1
            assert path.read_bytes() == elsewhere
            assert os.listdir(path.parent) == ["net.bin"]


class TestPlaces:
    """As permissions do not count for root, the starts are made without that right."""

    def test_missing_directory(self, model: Path, device: Device, tmp_path: Path) -> None:
        said = warned_once(model, device, tmp_path / "absent" / "net.bin", "no-file")
        assert "No such file or directory" in said
        assert not (tmp_path / "absent").exists()

    def test_a_directory_in_its_place(self, model: Path, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "net.bin"
        path.mkdir()
        (path / "precious").write_text("x")
        warned_once(model, device, path, "unreadable")
        assert (path / "precious").read_text() == "x"

    def test_a_directory_in_the_place_of_the_stores_file(self, model: Path, device: Device, store: Path) -> None:
        assert end(begin(model, device)).code == "no-file"
        (path,) = store.glob("*.bin")
        path.unlink()
        path.mkdir()
        warned_once(model, device, None, "unreadable")
        assert path.is_dir()

    def test_a_file_in_the_place_of_the_store(self, model: Path, device: Device, store: Path) -> None:
        store.write_text("precious")
        warned_once(model, device, None, "no-file")
        assert store.read_text() == "precious"

    def test_read_only_directory(self, model: Path, device: Device, tmp_path: Path, elsewhere: bytes) -> None:
        place = tmp_path / "files"
        place.mkdir()
        (place / "net.bin").write_bytes(elsewhere)
        place.chmod(0o555)
        try:
            warned_once(model, device, place / "net.bin", "device-missing", prefix=unprivileged())
            warned_once(model, device, place / "other.bin", "no-file", prefix=unprivileged())
        finally:
            place.chmod(0o755)
        assert (place / "net.bin").read_bytes() == elsewhere
        assert os.listdir(place) == ["net.bin"]

    def test_read_only_store(self, model: Path, device: Device, store: Path) -> None:
        store.mkdir(mode=0o555)
        try:
            warned_once(model, device, None, "no-file", prefix=unprivileged())
        finally:
            store.chmod(0o755)
        assert os.listdir(store) == []

    def test_a_good_program_in_a_read_only_store(self, model: Path, device: Device, store: Path) -> None:
        assert end(begin(model, device)).code == "no-file"
        for path in (store, *store.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            found = end(begin(model, device, prefix=unprivileged()))
        finally:
            for path in (store, *store.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
        assert (found.code, found.warnings, found.compiled) == ("hit", [], 0)

    @pytest.fixture
    def theirs(self, tmp_path: Path, elsewhere: bytes) -> Callable[[int, int], Path]:
        """A file of somebody else, in a directory where everybody may make files but remove only their own."""
        if os.geteuid() != 0:
            pytest.skip("making a file of another user takes root's rights")

        def make(mode: int, directory: int) -> Path:
            place = tmp_path / "files"
            place.mkdir()
            (place / "net.bin").write_bytes(elsewhere)
            (place / "net.bin").chmod(mode)
            for path in (place / "net.bin", place):
                os.chown(path, STRANGER, STRANGER)
            place.chmod(directory)
            return place / "net.bin"

        return make

    @pytest.mark.parametrize("directory", [0o1777, 0o755])
    def test_anothers_file(
        self, model: Path, device: Device, theirs: Callable[[int, int], Path], elsewhere: bytes, directory: int
    ) -> None:
        path = theirs(0o644, directory)
        warned_once(model, device, path, "device-missing", prefix=unprivileged())
        assert path.read_bytes() == elsewhere
        assert path.stat().st_uid == STRANGER
        assert os.listdir(path.parent) == ["net.bin"]

    def test_anothers_private_file(
        self, model: Path, device: Device, theirs: Callable[[int, int], Path], elsewhere: bytes
    ) -> None:
        path = theirs(0o600, 0o1777)
        warned_once(model, device, path, "unreadable", prefix=unprivileged())
        assert path.read_bytes() == elsewhere

    def test_anothers_file_in_ones_own_directory(
        self, model: Path, device: Device, theirs: Callable[[int, int], Path]
    ) -> None:
        """It may be replaced, and is, by a whole one."""
        path = theirs(0o644, 0o755)
        os.chown(path.parent, 0, 0)
        assert end(begin(model, device, path, prefix=unprivileged())).warnings == []
        assert path.stat().st_uid == 0
        assert len(read(path).targets) == 2

    def test_anothers_store(self, model: Path, device: Device, store: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("making a directory of another user takes root's rights")
        store.mkdir(mode=0o755)
        os.chown(store, STRANGER, STRANGER)
        warned_once(model, device, None, "no-file", prefix=unprivileged())
        assert os.listdir(store) == []

    def test_no_room_for_temporary_files(self, model: Path, device: Device, tmp_path: Path) -> None:
        """A start needs none of its own."""
        gone = tmp_path / "gone"
        gone.mkdir()
        settings = {"TMPDIR": str(gone)}
        process = begin(model, device, tmp_path / "net.bin", settings=settings, prefix=[])
        assert end(process).code == "no-file"
        assert not [path for path in gone.rglob("*") if "mace" in path.name]
        shutil.rmtree(gone)
