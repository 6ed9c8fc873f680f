"""The bytes of a compiled program: there and back, the same every time, and safe on the way to the disk."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mace_cl.device.signature import Signature
from mace_cl.errors import DamagedError, ForeignError, FutureError, ProgramError, StorageError
from mace_cl.program.format import MAGIC, PAGE, is_program, open_program, read, write
from mace_cl.program.program import ModelIdentity, Program, Target, Unit
from mace_cl.schedule import ITEM_BYTES, Kernel, Launch, Port, Schedule, Slot

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"


def signature(device: str = "AnyCL CPU", driver: str = "3.1") -> Signature:
    return Signature(
        vendor="Any Vendor",
        device=device,
        driver=driver,
        platform="AnyCL",
        platform_version="OpenCL 3.0 AnyCL 3.1",
        device_version="OpenCL 3.0",
        c_version="OpenCL C 1.2",
        properties=(("compute_units", "2"), ("local_memory", "524288")),
    )


def schedule(constant_bytes: int = 5000) -> Schedule:
    weights = Slot("constants", 0, 4000)
    bias = Slot("constants", 4096, 904)
    image, middle, result = Slot("arena", 0, 3072), Slot("arena", 3072, 4096), Slot("arena", 0, 40)
    launches = [
        Launch(0, (16, 8, 1), (1, 1, 1), (image, weights, bias, middle), "conv1", 123456),
        Launch(1, (64, 1, 1), (64, 1, 1), (middle, result), "pool1+softmax"),
    ]
    return Schedule(
        inputs=(Port("image", "float32", (1, 3, 16, 16), image),),
        outputs=(Port("probabilities", "float32", (1, 10), result),),
        kernels=(
            Kernel("conv_0", "conv2d", "__kernel void conv_0() {} // µ\n", (("tile", 28), ("rows", -1))),
            Kernel("pool_1", "pool", "__kernel void pool_1() {}\n", ()),
        ),
        launches=tuple(launches),
        arena_bytes=8192,
        constant_bytes=constant_bytes,
        build_options="-cl-std=CL1.2",
    )


def sample() -> Program:
    """Two targets that share sources, weights and one binary; the second has a unit without a binary."""
    constants = memoryview(bytes(index * 7 % 251 for index in range(5000)))
    first = Target(
        signature=signature(),
        schedule=schedule(),
        units=(Unit((0,), b"\x7fELF first binary"), Unit((1,), b"second binary")),
        constants=constants,
        provenance=(("tuning", "default parameters"),),
    )
    second = replace(
        first,
        signature=signature("OtherCL GPU", "26.2"),
        units=(Unit((0,), None), Unit((1,), b"second binary")),
        provenance=(),
    )
    return Program(
        producer="mace-cl 0.1.0",
        engine="e" * 64,
        model=ModelIdentity("tiny", "ab" * 32),
        options=(("precision", "float32"), ("layout", "nchw8c")),
        targets=(first, second),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "program.bin"


@pytest.fixture
def written(path: Path) -> bytes:
    write(sample(), path)
    return path.read_bytes()


def test_images_are_kept_and_asked_of_a_reader(path: Path) -> None:
    program = sample()
    first, *others = program.targets
    conv, pool = first.schedule.kernels
    seen = replace(first, schedule=replace(first.schedule, kernels=(replace(conv, images=(1,)), pool)))
    write(replace(program, targets=(seen, *others)), path)
    opened = open_program(path)
    assert list(opened.manifest.requires) == ["images"]
    assert [kernel.images for kernel in opened.program.targets[0].schedule.kernels] == [(1,), ()]


@pytest.mark.parametrize("argument", [2, 4])
def test_what_no_image_can_be_made_of_is_refused(argument: int) -> None:
    conv, pool = schedule().kernels
    odd = replace(schedule(), kernels=(replace(conv, images=(argument,)), pool))
    with pytest.raises(ValueError, match=rf"launch 0 \(conv1\): argument {argument} of 4 can't be an image"):
        odd.check()


def test_what_is_written_is_read(path: Path, written: bytes) -> None:
    assert read(path) == read(str(path)) == read(written) == read(memoryview(written)) == sample()


def test_equal_programs_give_equal_bytes(path: Path, written: bytes) -> None:
    write(read(written), path)
    assert path.read_bytes() == written


def test_bytes_do_not_depend_on_hash_seed_or_place(tmp_path: Path, written: bytes) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_program_format as t; t.write(t.sample(), sys.argv[2])"
    )
    for seed in ("1", "2"):
        out = tmp_path / seed / "another-name.bin"
        out.parent.mkdir()
        paths = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths})
        assert out.read_bytes() == written


def test_golden_file_of_this_format_version(written: bytes, request: pytest.FixtureRequest) -> None:
    """A change of these bytes is a change of the format: readers in the field must still read them."""
    if request.config.getoption("--update-golden", False):
        GOLDEN.write_bytes(written)
    assert read(GOLDEN) == sample()
    assert GOLDEN.read_bytes() == written


def test_first_screen_of_a_hexdump_says_what_it_is(written: bytes) -> None:
    screen = written[:384].decode("latin-1")
    for words in ("CL_PROGRAM_BINARY", "mace-cl 0.1.0", "tiny", "AnyCL CPU", "3.1", "OtherCL GPU", "2 kernels"):
        assert words in screen


def test_text_cannot_bring_control_characters(path: Path) -> None:
    evil = replace(sample(), producer="\x1b[2J\nTarget device: forged" + "x" * 1000, targets=sample().targets * 20)
    write(evil, path)
    assert read(path) == evil
    assert b"\x1b" not in path.read_bytes()[:300]
    assert b"\nTarget device: forged" not in path.read_bytes()[:300]


def test_equal_content_is_stored_once(path: Path, written: bytes) -> None:
    sections = open_program(path).manifest.sections
    assert len(sections) == 2 + 2 + 1
    assert len({section.sha256 for section in sections}) == len(sections)


def test_constants_begin_on_a_page_and_are_not_copied(path: Path, written: bytes) -> None:
    opened = open_program(path)
    constants = opened.program.targets[0].constants
    assert constants is not None
    assert constants.obj is opened.view.obj
    assert constants.readonly
    assert opened.manifest.sections[-1].offset % PAGE == 0
    assert written[opened.manifest.sections[-1].offset :] == constants


def test_views_keep_the_file_alive(path: Path, written: bytes) -> None:
    constants = read(path).targets[0].constants
    write(replace(sample(), producer="another"), path)
    assert constants == sample().targets[0].constants


def test_weights_may_stay_outside(path: Path) -> None:
    program = replace(sample(), targets=(replace(sample().targets[0], constants=None),))
    write(program, path)
    assert read(path) == program
    assert path.stat().st_size < PAGE


def test_a_model_without_weights(path: Path) -> None:
    plain = schedule(0)
    plain = replace(plain, launches=(replace(plain.launches[1], args=plain.launches[1].args),))
    write(replace(sample(), targets=(replace(sample().targets[0], schedule=plain, constants=memoryview(b"")),)), path)
    assert read(path).targets[0].constants == memoryview(b"")


def test_verify_reads_what_opening_did_not(path: Path, written: bytes) -> None:
    broken = bytearray(written)
    broken[-1] ^= 1
    opened = open_program(bytes(broken))
    found: list[BaseException] = []

    def verify() -> None:
        try:
            opened.verify()
        except DamagedError as error:
            found.append(error)

    thread = threading.Thread(target=verify)
    thread.start()
    thread.join()
    assert "section 4 (constants, 5000 bytes)" in str(found[0])


def test_writing_streams_the_weights(path: Path) -> None:
    size = 64 << 20
    weights = memoryview(bytes(size))
    big = replace(sample().targets[0], schedule=schedule(size), constants=weights)
    tracemalloc.start()
    write(replace(sample(), targets=(big,)), path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 8
    assert read(path).targets[0].constants == weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: replace(t, units=t.units[:1]), "not each of 2 once"),
        (lambda t: replace(t, units=(Unit((0, 1, 1), None),)), "not each of 2 once"),
        (lambda t: replace(t, units=(*t.units, Unit((), None))), "holds no kernel"),
        (lambda t: replace(t, units=(Unit((0, 1), b""),)), "empty binary"),
        (lambda t: replace(t, constants=t.constants[:-1]), "4999 bytes of constants, not 5000"),
        (lambda t: replace(t, schedule=replace(t.schedule, arena_bytes=1 << 41)), "an arena of"),
        (lambda t: replace(t, schedule=replace(t.schedule, arena_bytes=100)), "outside its buffer"),
        (lambda t: replace(t, schedule=_port(t.schedule, dtype="object")), "'object' is not known"),
        (lambda t: replace(t, schedule=_port(t.schedule, shape=(1, 3, 16, 17))), "does not fit"),
        (lambda t: replace(t, schedule=_port(t.schedule, slot=Slot("constants", 0, 3072))), "does not fit"),
        (lambda t: replace(t, schedule=_kernel(t.schedule, name="a b")), "'a b' is not an identifier"),
    ],
)
def test_a_program_that_contradicts_itself_is_not_written(
    path: Path, change: Callable[[Target], Target], message: str
) -> None:
    broken = replace(sample(), targets=(change(sample().targets[0]),))
    with pytest.raises(ValueError, match=message):
        write(broken, path)
    assert not path.exists()


def _port(of: Schedule, **change: object) -> Schedule:
    return replace(of, inputs=(replace(of.inputs[0], **change),))  # type: ignore[arg-type]


def _kernel(of: Schedule, **change: object) -> Schedule:
    return replace(of, kernels=(replace(of.kernels[0], **change), *of.kernels[1:]))  # type: ignore[arg-type]


def test_a_program_needs_a_target(path: Path) -> None:
    with pytest.raises(ValueError, match="without a target"):
        write(replace(sample(), targets=()), path)


def test_a_program_beyond_the_limits_is_not_written(path: Path) -> None:
    target = sample().targets[0]
    launches = target.schedule.launches * 40000
    with pytest.raises(StorageError, match=r"does not fit its file format: more than 262144"):
        write(replace(sample(), targets=(replace(target, schedule=replace(target.schedule, launches=launches)),)), path)


def test_a_manifest_beyond_the_limit_is_not_written(path: Path) -> None:
    with pytest.raises(StorageError, match="a manifest of"):
        write(replace(sample(), options=(("x", "y" * (1 << 22)),)), path)


def test_element_types_are_numpys() -> None:
    numpy = pytest.importorskip("numpy")
    assert {name: numpy.dtype(name).itemsize for name in ITEM_BYTES} == ITEM_BYTES


# ---- what is no program, or not ours to read ----


def test_is_program(written: bytes) -> None:
    assert is_program(written[:8])
    assert is_program(memoryview(written))
    assert not is_program(b"")
    assert not is_program(b"\x08\x0a\x12\x07pytorch")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")


MACE_PAIRS = b"\x0a\x08\x0a\x03key\x12\x01v"
FOREIGN: list[tuple[bytes, str]] = [
    (b"\x08\x0a\x12\x07pytorch" + bytes(range(256)), "an ONNX model"),
    (b"PK\x03\x04" + bytes(60), "a zip archive"),
    (b"\x7fELF\x02\x01\x01" + bytes(60), "an ELF file"),
    (b"\x93NUMPY\x01\x00" + bytes(60), "a NumPy array"),
    (b"\x1c\x00\x00\x00TFL3" + bytes(60), "a TensorFlow Lite model"),
    (b"CLCC" + bytes(60), "a bare Mali program binary"),
    (b"hello, this is a note\n", "a text file"),
    ("grüße, auch das ist Text\n".encode() * 300, "a text file"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    (MACE_PAIRS + struct.pack("<I", zlib.crc32(MACE_PAIRS)), "a compiled-program or tuning file of MACE"),
    (
        struct.pack("<qi", 1, 18) + b"conv_2d -DBIAS=yes" + struct.pack("<i", 3) + b"\x00\x01\x02",
        "a compiled-program or tuning file of MACE",
    ),
    (b"\x00\xff\xfe\x01" + bytes(100), "of a kind not known (it begins with the bytes 00 ff fe 01 00 00 00 00)"),
]


@pytest.mark.parametrize(("data", "kind"), FOREIGN, ids=[kind[:24] for _, kind in FOREIGN])
def test_foreign_files_are_named(path: Path, data: bytes, kind: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ForeignError) as caught:
        read(path)
    assert kind in str(caught.value)
    assert str(path) in str(caught.value)
    assert "mace-cl compile" in str(caught.value)
    assert not isinstance(caught.value, DamagedError)


def _header(data: bytes, **change: int) -> bytes:
    names = ["magic", "version", "head_crc", "file_length", "text_length", "manifest_length", "seal_length", "seal_crc"]
    values = list(struct.unpack("<8sIIQIIQI16s", data[:60]))
    for name, value in change.items():
        values[names.index(name)] = value
    header = struct.pack("<8sIIQIIQI16s", *values)
    return header + struct.pack("<I", zlib.crc32(header)) + data[64:]


def test_a_future_version_says_so(written: bytes) -> None:
    with pytest.raises(FutureError, match=r"format version 4; this mace-cl reads version 3\. Update"):
        read(_header(written, version=4))


def test_a_feature_that_must_be_known(written: bytes) -> None:
    manifest = open_program(written).manifest
    manifest.requires.append("encrypted sections")
    head = manifest.SerializeToString()
    text = struct.unpack_from("<I", written, 24)[0]
    data = written[: 64 + text] + head
    with pytest.raises(FutureError, match="takes a mace-cl that knows 'encrypted sections'"):
        read(_header(data, head_crc=zlib.crc32(data[64:]), file_length=len(data), manifest_length=len(head)))


def test_a_seal_is_checked_and_otherwise_left_alone(written: bytes) -> None:
    seal = b"a signature of some later version"
    data = _header(written + seal, file_length=len(written + seal), seal_length=len(seal), seal_crc=zlib.crc32(seal))
    assert read(data) == sample()
    with pytest.raises(DamagedError, match=f"byte {len(written)}: the seal"):
        read(data[:-1] + b"?")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"", "byte 0: the file is empty"),
        (lambda d: d[:5], "byte 5: the file ends here"),
        (lambda d: d[:63], "byte 63: the file ends inside its header"),
        (lambda d: d[:-1], "were written"),
        (lambda d: d + b"x", "were written"),
        (lambda d: b"\x09" + d[1:], "byte 0: the first bytes are 09 4d"),
        (lambda d: d.replace(b"\r\n", b"\n", 1), "byte 0|not a compiled program"),
        (lambda d: d[:30] + b"\x01" + d[31:], "byte 0: the header has the CRC32"),
        (lambda d: d[:70] + b"\x01" + d[71:], "byte 64: text and manifest have the CRC32"),
        (lambda d: _header(d, manifest_length=1 << 30), "byte 24: .* too long"),
        (lambda d: _header(d, manifest_length=1 << 22), "byte 24: .* do not fit"),
        (lambda d: _header(d, text_length=(1 << 32) - 1), "byte 24: .* too long"),
        (lambda d: _header(d, seal_length=(1 << 64) - 1), "byte 24: .* do not fit"),
        (lambda d: _header(d, file_length=(1 << 64) - 1), "were written"),
    ],
)
def test_damage_is_named(written: bytes, damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        read(damage(written))


def test_reserved_bytes_must_be_zero(written: bytes) -> None:
    data = written[:50] + b"\x01" + written[51:]
    with pytest.raises(DamagedError, match="byte 44: reserved bytes"):
        read(_header(data))


def test_a_manifest_that_is_no_protobuf(written: bytes) -> None:
    text = struct.unpack_from("<I", written, 24)[0]
    data = written[: 64 + text] + b"\xff" * 10
    with pytest.raises(DamagedError, match="no protobuf message"):
        read(_header(data, head_crc=zlib.crc32(data[64:]), file_length=len(data), manifest_length=10))


# ---- files that can't be read or written ----


def test_reading_a_missing_file_a_directory_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.bin: can't be read \(No such file"):
        read(tmp_path / "nothing.bin")
    with pytest.raises(StorageError, match="not a regular file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up(path: Path, written: bytes, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        resource = pytest.importorskip("resource")
        signal = pytest.importorskip("signal")
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(StorageError, match="could not be written"):
                write(replace(sample(), producer="another"), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
    else:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(StorageError, match=r"No space left on device.*has room"):
            write(replace(sample(), producer="another"), path)
    assert path.read_bytes() == written
    assert list(path.parent.iterdir()) == [path]


def test_writing_where_one_cannot(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write(sample(), tmp_path / "missing" / "program.bin")
    with pytest.raises(StorageError, match="is a directory or a device"):
        write(sample(), tmp_path)
    with pytest.raises(StorageError, match="is a directory or a device"):
        write(sample(), os.devnull)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="Not a directory"):
        write(sample(), tmp_path / "file" / "program.bin")
    with pytest.raises(StorageError, match="name too long"):
        write(sample(), tmp_path / ("x" * 300))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_directory_without_permission(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=f"program.bin: .*{os.strerror(code)}"):
        write(sample(), path)


def test_a_file_without_permission(path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"can't be read \(Permission denied"):
        read(path)


def test_a_link_is_followed_and_the_umask_respected(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "real" / "program.bin")
    before = os.umask(0o027)
    try:
        write(sample(), link)
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert (tmp_path / "real" / "program.bin").stat().st_mode & 0o777 == 0o640
    assert read(link) == sample()


def test_readers_always_see_a_whole_file(path: Path, written: bytes) -> None:
    others = [replace(sample(), producer=f"writer {number}") for number in range(3)]
    stop = time.monotonic() + 0.5

    def rewrite(program: Program) -> None:
        while time.monotonic() < stop:
            write(program, path)

    threads = [threading.Thread(target=rewrite, args=(program,)) for program in others]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        assert read(path) in [sample(), *others]
    for thread in threads:
        thread.join()
    assert list(path.parent.iterdir()) == [path]


def test_magic_finds_text_mode_transfers() -> None:
    assert MAGIC.replace(b"\r\n", b"\n") != MAGIC
    assert MAGIC[0] & 0x80
