"""Input and output files of ``mace-cl run``: what is read, what is refused, and that names lead nowhere else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from mace_cl.errors import ImageError, InputError, StorageError
from mace_cl.schedule import Port, Slot
from mace_cl.tools import tensors
from mace_cl.tools.common import Preprocessing
from mace_cl.tools.tensors import Arrays

PLAIN = Preprocessing()
A = Port("a", "float32", (2, 3), Slot("arena", 0, 24))
B = Port("b=b", "int64", (2,), Slot("arena", 0, 16))
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(ports: list[Port], *specs: str) -> Arrays:
    tensors.check_files(specs)
    return tensors.read_inputs(specs, ports, PLAIN)[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_npy_alone_and_with_a_name(here: Path) -> None:
    np.save("x.npy", VALUES)
    np.save("y=y.npy", np.array([1, 2]))
    np.testing.assert_array_equal(read([A], "x.npy")["a"], VALUES)
    found = read([A, B], "a=x.npy", "b=b=y=y.npy")
    assert {name: array.tolist() for name, array in found.items()} == {"a": VALUES.tolist(), "b=b": [1, 2]}


def test_fortran_order_and_big_endian_are_put_right(here: Path) -> None:
    np.save("x.npy", np.asfortranarray(VALUES.astype(">f4")))
    array = read([A], "x.npy")["a"]
    np.testing.assert_array_equal(array, VALUES)
    assert array.dtype == np.dtype("float32")
    assert array.flags.c_contiguous


def test_npz_by_key_by_name_and_the_only_array(here: Path) -> None:
    arrays: Arrays = {"a": VALUES, "b=b": np.array([3, 4])}
    np.savez("both.npz", **arrays)  # type: ignore[arg-type]
    np.savez_compressed("one.npz", anything=VALUES)
    assert set(read([A, B], "both.npz")) == {"a", "b=b"}
    assert set(read([A, B], "a=both.npz")) == {"a"}
    np.testing.assert_array_equal(read([A], "one.npz")["a"], VALUES)


def test_raw_is_little_endian(here: Path) -> None:
    Path("x.raw").write_bytes(VALUES.astype("<f4").tobytes())
    np.testing.assert_array_equal(read([A], "x.raw")["a"], VALUES)


def test_nan_is_kept(here: Path) -> None:
    np.save("x.npy", np.full((2, 3), np.nan, np.float32))
    assert np.isnan(read([A], "x.npy")["a"]).all()


def test_random_is_seeded_and_of_the_right_kind() -> None:
    one, same, other = (tensors.random_inputs([A, B], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["a"], same["a"])
    assert not np.array_equal(one["a"], other["a"])
    assert (str(one["a"].dtype), str(one["b=b"].dtype)) == ("float32", "int64")


def bomb(path: Path) -> None:
    """An .npz whose array claims to take a tebibyte."""
    head = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("absent.npy", "no such file"),
        ("a=absent.npy", "no such file"),
        ("c=x.npy", "no input 'c'; it takes 'a' float32"),
        ("x.npy", "say for which input"),
        ("other.npz", "say for which input"),
        ("a=other.npz", r"holds \['c', 'd'\]"),
        ("a=double.npy", r"holds float64 \[2, 3\], but the model takes 'a' float32"),
        ("a=shape.npy", r"holds float32 \[3, 2\]"),
        ("a=rank.npy", r"holds float32 \[6\]"),
        ("a=objects.npy", "holds object"),
        ("a=bomb.npz", r"holds float32 \[274877906944\]"),
        ("a=text.npy", "not a whole NumPy array"),
        ("a=cut.npy", "not a whole NumPy array"),
        ("a=future.npy", r"version \(3, 0\)"),
        ("a=text.npz", "not an .npz file"),
        ("a=damaged.npz", "not a whole NumPy array"),
        ("a=short.bin", "has 20 bytes, but 'a' float32 .* takes 24"),
    ],
)
def test_bad_inputs(here: Path, spec: str, said: str) -> None:
    np.save("x.npy", VALUES)
    np.save("double.npy", VALUES.astype(np.float64))
    np.save("shape.npy", VALUES.reshape(3, 2))
    np.save("rank.npy", VALUES.reshape(6))
    np.save("objects.npy", np.array([[{}, {}, {}]] * 2), allow_pickle=True)
    np.savez("other.npz", c=VALUES, d=VALUES)
    bomb(Path("bomb.npz"))
    Path("text.npy").write_text("no array")
    Path("text.npz").write_text("no archive")
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-4])
    Path("future.npy").write_bytes(b"\x93NUMPY\x03\x00" + Path("x.npy").read_bytes()[8:])
    np.savez("damaged.npz", a=VALUES)
    data = bytearray(Path("damaged.npz").read_bytes())
    data[data.index(VALUES.tobytes()) + 5] ^= 1
    Path("damaged.npz").write_bytes(data)
    Path("short.bin").write_bytes(bytes(20))
    with pytest.raises(InputError, match=said):
        read([A, B], spec)


def test_an_input_given_twice(here: Path) -> None:
    np.save("x.npy", VALUES)
    with pytest.raises(InputError, match="given before"):
        read([A], "x.npy", "a=x.npy")


def test_other_files_are_images(here: Path) -> None:
    Path("x.png").write_text("no image")
    image = Port("a", "float32", (1, 3, 2, 2), Slot("arena", 0, 48))
    with pytest.raises(ImageError):
        read([image], "x.png")


OUTPUTS: Arrays = {"scores": VALUES, "file": VALUES + 1, "../up/../../x": VALUES + 2}


def write(*specs: str) -> list[str]:
    tensors.check_outputs(specs)
    return [str(path) for path in tensors.write_outputs(specs, OUTPUTS)]


def test_npz_holds_all_outputs_whatever_their_names(here: Path) -> None:
    assert write("all.npz") == ["all.npz"]
    with np.load("all.npz", allow_pickle=False) as found:
        assert set(found) == set(OUTPUTS)
        np.testing.assert_array_equal(found["file"], VALUES + 1)


def test_a_directory_gets_a_file_each_and_none_elsewhere(here: Path) -> None:
    Path("into").mkdir()
    before = set(here.parent.iterdir())
    written = write("into")
    assert {path.name for path in Path("into").iterdir()} == {Path(path).name for path in written}
    assert len(written) == 3
    assert all(Path(path).parent == Path("into") for path in written)
    assert set(here.parent.iterdir()) == before


def test_one_output_by_name(here: Path) -> None:
    assert write("scores=s.npy", "file=f.npz") == ["s.npy", "f.npz"]
    np.testing.assert_array_equal(np.load("s.npy"), VALUES)
    with np.load("f.npz") as found:
        assert list(found) == ["file"]


@pytest.mark.parametrize("spec", ["x.txt", "x", "scores=x.bin"])
def test_output_of_no_known_kind(here: Path, spec: str) -> None:
    with pytest.raises(InputError, match=r"give FILE.npz"):
        write(spec)


@pytest.mark.parametrize("spec", ["x.npy", "other=x.npy"])
def test_output_without_a_name(here: Path, spec: str) -> None:
    with pytest.raises(InputError, match="say which output"):
        write(spec)
    assert not list(here.glob("*.npy"))


@pytest.mark.parametrize("spec", ["absent/x.npz", "scores=absent/x.npy"])
def test_output_in_a_missing_directory(here: Path, spec: str) -> None:
    with pytest.raises(StorageError, match="no directory"):
        write(spec)


def test_output_that_fails_while_it_is_written(here: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        tensors.write_outputs(["absent/x.npz"], OUTPUTS)
