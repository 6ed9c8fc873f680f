"""The manifest's generated code, and what a forged manifest with right checksums can do: nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from forgery import forge
from mace_cl.errors import DamagedError
from mace_cl.frontends.caffe import caffe_pb2
from mace_cl.frontends.mace import mace_pb2
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import open_program, read, write

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
PROTOS = {
    "mace_cl/program/manifest.proto": pb,
    "mace_cl/frontends/caffe/caffe.proto": caffe_pb2,
    "mace_cl/frontends/mace/mace.proto": mace_pb2,
}


@pytest.mark.parametrize("proto", PROTOS)
def test_generated_code_is_that_of_the_proto(proto: str, tmp_path: Path) -> None:
    source = Path(pb.__file__).parents[2]
    out = tmp_path / "manifest.desc"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={source}",
        f"--descriptor_set_out={out}",
        proto,
    ]
    subprocess.run(command, check=True)
    (wanted,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    found = descriptor_pb2.FileDescriptorProto()
    PROTOS[proto].DESCRIPTOR.CopyToProto(found)
    for file in (wanted, found):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
                if field.type == field.TYPE_FLOAT and field.default_value:
                    field.default_value = str(np.float32(field.default_value))
    assert found == wanted


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    write(SAMPLE, tmp_path / "program.bin")
    return (tmp_path / "program.bin").read_bytes()


def test_forging_without_an_edit_changes_nothing(data: bytes) -> None:
    assert forge(data, lambda m: None) == data


def test_unknown_fields_and_sections_are_left_alone(data: bytes) -> None:
    """A later writer may add what this reader does not know: golden vectors, history."""

    def add(manifest: pb.Manifest) -> None:
        manifest.MergeFromString(b"\xc2\x3e\x05later")
        manifest.sections[-1].kind = 77  # type: ignore[assignment]
        for target in manifest.targets:
            target.ClearField("constants")

    program = read(forge(data, add))
    assert program.targets[0].constants is None
    assert program.targets[0].schedule == SAMPLE.targets[0].schedule


def _schedule(manifest: pb.Manifest) -> pb.Schedule:
    return manifest.targets[0].schedule


TARGET_FORGERIES: list[tuple[Callable[[pb.Manifest], object], str]] = [
    (lambda m: m.ClearField("targets"), "without a target"),
    (lambda m: m.targets.extend([pb.Target()] * 17000), "more than 262144"),
    (lambda m: _schedule(m).launches.extend([pb.Launch()] * 300000), "more than 262144"),
    (lambda m: _schedule(m).launches[0].args.extend([0] * 300000), "more than 262144"),
    (lambda m: _schedule(m).slots.extend([pb.Slot()] * 300000), "more than 262144"),
    (lambda m: setattr(_schedule(m), "arena_bytes", (1 << 64) - 1), "an arena of 18446744073709551615 bytes"),
    (lambda m: setattr(_schedule(m), "constant_bytes", 1 << 60), "5000 bytes of constants, not"),
    (lambda m: setattr(_schedule(m), "constant_bytes", 100), "outside its buffer"),
    (lambda m: setattr(_schedule(m).slots[0], "offset", 1 << 63), "outside its buffer"),
    (lambda m: setattr(_schedule(m).slots[0], "size", 8193), "outside its buffer"),
    (lambda m: setattr(_schedule(m).slots[0], "space", 9), "outside its buffer"),
    (lambda m: setattr(_schedule(m).inputs[0], "slot", 99), "a slot beyond the 5"),
    (lambda m: setattr(_schedule(m).inputs[0], "dtype", "O"), "'O' is not known"),
    (lambda m: _schedule(m).inputs[0].shape.append(1 << 62), "does not fit"),
    (lambda m: _schedule(m).launches[0].args.append(1 << 31), "a slot beyond"),
    (lambda m: setattr(_schedule(m).launches[0], "kernel", 2), "kernel index 2 of 2"),
    (lambda m: _schedule(m).launches[0].global_size.append(1), "three dimensions"),
    (lambda m: _schedule(m).launches[0].global_size.__setitem__(0, 0), r"\(0, 8, 1\)"),
    (lambda m: setattr(_schedule(m).kernels[0], "name", 'x");'), "is not an identifier"),
    (lambda m: setattr(_schedule(m).kernels[0], "source", 3), "section 3, which is not one of its kind"),
    (lambda m: setattr(_schedule(m).kernels[0], "source", 1 << 31), "which is not one of its kind"),
    (lambda m: setattr(m.targets[0].units[0], "binary", 0), "unit 0 refers to section 0"),
    (lambda m: setattr(m.targets[0], "constants", 2), "the constants refers to section 2"),
    (lambda m: m.targets[0].units[0].kernels.append(1), "not each of 2 once"),
    (lambda m: m.targets[0].units.add(), "holds no kernel"),
    (lambda m: m.options.extend([pb.Pair()] * 300000), "more than 262144"),
    (lambda m: m.sections.pop(), "the constants refers to section 4, which is not"),
    (lambda m: setattr(m.sections[4], "kind", pb.KIND_BINARY), "is not one of its kind"),
]


@pytest.mark.parametrize(("edit", "message"), TARGET_FORGERIES)
def test_forged_targets_with_right_checksums(data: bytes, edit: Callable[[pb.Manifest], object], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        read(forge(data, edit))


BOND_FORGERIES: list[Callable[[pb.Manifest], object]] = [
    lambda m: setattr(m.targets[0].units[0], "binary", 3),
    lambda m: m.targets[0].units[0].ClearField("bond"),
    lambda m: setattr(m.targets[0].units[0], "bond", m.targets[0].units[1].bond),
    lambda m: setattr(m.targets[0].signature, "driver", "another"),
    lambda m: m.targets[0].signature.properties[0].MergeFrom(pb.Pair(value="3")),
    lambda m: setattr(_schedule(m), "build_options", "-cl-fast-relaxed-math"),
    lambda m: setattr(_schedule(m).kernels[0], "name", "other"),
    lambda m: setattr(_schedule(m).kernels[0], "source", 1),
    lambda m: setattr(m.sections[0], "sha256", "0" * 64),
    lambda m: setattr(m.sections[2], "sha256", "0" * 64),
]


@pytest.mark.parametrize("edit", BOND_FORGERIES)
def test_a_binary_belongs_to_its_kernels_and_device(data: bytes, edit: Callable[[pb.Manifest], object]) -> None:
    with pytest.raises(DamagedError, match=r"target 0, unit 0: section . is not the binary that was compiled"):
        read(forge(data, edit))


def test_a_binary_of_another_program_with_right_checksums(data: bytes) -> None:
    """The section's checksums are those of the new content, but the unit is bound to the old one."""
    other = b"a stranger's code"
    section = open_program(data).manifest.sections[2]
    assert section.length == len(other)
    swapped = data[: section.offset] + other + data[section.offset + section.length :]

    def edit(manifest: pb.Manifest) -> None:
        manifest.sections[2].crc32 = zlib.crc32(other)

    def edit_more(manifest: pb.Manifest) -> None:
        edit(manifest)
        manifest.sections[2].sha256 = hashlib.sha256(other).hexdigest()

    with pytest.raises(DamagedError, match=r"section 2 \(binary, 17 bytes\) has the SHA-256"):
        read(forge(swapped, edit))
    with pytest.raises(DamagedError, match="section 2 is not the binary that was compiled"):
        read(forge(swapped, edit_more))


SECTION_FORGERIES: list[tuple[Callable[[pb.Manifest], object], str]] = [
    (
        # the shorter fingerprint makes room for the longer number, so that sections stay in place
        lambda m: [setattr(m.sections[4], "length", (1 << 63) - 1), setattr(m, "engine", "e" * 57)],  # type: ignore[func-returns-value]
        "section 4 claims 9223372036854775807 bytes",
    ),
    (lambda m: setattr(m.sections[4], "offset", (1 << 64) - 4096), "section 4 claims"),
    (lambda m: setattr(m.sections[0], "offset", 0), "section 0 claims"),
    (lambda m: setattr(m.sections[2], "offset", m.sections[3].offset), "section 2 claims"),
    (lambda m: setattr(m.sections[4], "length", 4999), "1 bytes belong to no section"),
    (lambda m: setattr(m.sections[4], "crc32", 1), r"section 4 \(constants, 5000 bytes\) has the CRC32"),
    (lambda m: setattr(m.sections[0], "crc32", 1), r"section 0 \(source"),
]


@pytest.mark.parametrize(("edit", "message"), SECTION_FORGERIES)
def test_forged_sections_with_right_checksums(data: bytes, edit: Callable[[pb.Manifest], object], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        read(forge(data, edit, lay=False))


def test_a_section_of_an_unknown_kind_is_checked_too(data: bytes) -> None:
    def edit(manifest: pb.Manifest) -> None:
        manifest.sections[-1].kind = 77  # type: ignore[assignment]
        manifest.sections[-1].crc32 = 5
        for target in manifest.targets:
            target.ClearField("constants")

    with pytest.raises(DamagedError, match=r"section 4 \(kind 77, 5000 bytes\) has the CRC32"):
        read(forge(data, edit))


def test_a_section_that_is_not_text(data: bytes) -> None:
    def edit(manifest: pb.Manifest) -> None:
        manifest.sections[0].crc32 = zlib.crc32(b"\xff" * manifest.sections[0].length)

    forged = bytearray(forge(data, edit))
    section = open_program(data).manifest.sections[0]
    forged[section.offset : section.offset + section.length] = b"\xff" * section.length
    with pytest.raises(DamagedError, match="contradicts itself: 'utf-8' codec"):
        read(bytes(forged))


def test_zeros_between_sections_are_covered(data: bytes) -> None:
    sections = open_program(data).manifest.sections
    damaged = bytearray(data)
    damaged[sections[-1].offset - 1] = 1
    with pytest.raises(DamagedError, match="before section 4 are not all zero"):
        open_program(bytes(damaged))
