"""A look inside a program file: what `mace-cl inspect` shows, as plain data."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from mace_cl.device.signature import Signature
from mace_cl.program.bucket import Input
from mace_cl.program.cipher import Key
from mace_cl.program.format import Opened, open_program, open_without_key, scan
from mace_cl.program.manifest import KINDS
from mace_cl.program.program import ModelIdentity, Pairs
from mace_cl.program.seal import Signed, signatures
from mace_cl.schedule import Node, Port

__all__ = ["HostView", "Inspection", "KernelView", "PortView", "SectionView", "TargetView", "look", "summary", "text"]


@dataclass(frozen=True)
class SectionView:
    """One section: ``kind`` is "source", "binary", "constants", "golden", "host" or an unknown number."""

    kind: str
    offset: int
    length: int
    crc32: str
    sha256: str


@dataclass(frozen=True)
class PortView:
    """An input or output of the model; see `mace_cl.schedule.Port`."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {'of any shape' if self.shape is None else list(self.shape)}"


@dataclass(frozen=True)
class KernelView:
    """One kernel: the unit that holds it, how often it is launched, its source's size in bytes and hash."""

    name: str
    family: str
    parameters: tuple[tuple[str, int], ...]
    unit: int
    launches: int
    source_bytes: int
    source_sha256: str


@dataclass(frozen=True)
class HostView:
    """A part that runs on the host, before launch ``at``: its provider, nodes, and its sub-model's section."""

    at: int
    provider: str
    nodes: tuple[str, ...]
    inputs: tuple[PortView, ...]
    outputs: tuple[PortView, ...]
    model_bytes: int
    model_sha256: str


@dataclass(frozen=True)
class TargetView:
    """The part for one device.  Sizes in bytes; ``constants_inside`` tells whether the weights are baked in.

    ``bucket`` are the shapes and parameters that it is for, of a model that leaves them open.
    """

    signature: Signature
    build_options: str
    inputs: tuple[PortView, ...]
    outputs: tuple[PortView, ...]
    kernels: tuple[KernelView, ...]
    launches: int
    units: int
    units_with_binary: int
    binary_bytes: int
    source_bytes: int
    arena_bytes: int
    constant_bytes: int
    constants_inside: bool
    provenance: Pairs
    hosts: tuple[HostView, ...]
    nodes: tuple[Node, ...]
    bucket: str


@dataclass(frozen=True)
class Inspection:
    """A whole file; ``dataclasses.asdict`` of it is what ``--json`` prints.  Sizes in bytes, hashes hexadecimal.

    ``encrypted_with`` is the id of the key that weights and sources are encrypted with, empty where they are not;
    ``readable`` tells that they could be decrypted.  ``inputs`` are the model's if it leaves some open: a size of
    None is symbolic.
    """

    file: str
    format_version: int
    file_bytes: int
    crc32: str
    producer: str
    engine: str
    model: ModelIdentity
    options: Pairs
    inputs: tuple[Input, ...]
    kernel_count: int
    head_bytes: int
    section_bytes: dict[str, int]
    sections: tuple[SectionView, ...]
    targets: tuple[TargetView, ...]
    signatures: tuple[Signed, ...]
    encrypted_with: str
    readable: bool


def look(
    source: Path | str | bytes, key: Key | None = None, trusted_keys: Sequence[str] = (), store_dir: Path | None = None
) -> tuple[Opened, Inspection]:
    """Checks every byte of a program file and tells all that it holds, and who signed it.

    An encrypted file whose key is not given shows all but its sources.

    Raises:
        DamagedError, ProgramError, StorageError: it can't be read as one.
        SealError: the key given is another than the file's.
        SettingsError: a trusted key can't be read.
    """
    file = scan(source)
    hidden = key is None and any(section.nonce for section in file.manifest.sections)
    opened = open_without_key(file) if hidden else open_program(source, key)
    opened.verify()
    signed = signatures(file, trusted_keys, store_dir)
    if signed:
        opened.verify_hashes()
    return opened, summary(opened, signed, readable=not hidden)


def summary(opened: Opened, signed: tuple[Signed, ...] = (), readable: bool = True) -> Inspection:
    """Tells all that an opened program file holds; reads the whole file for its CRC32."""
    program, manifest = opened.program, opened.manifest
    sections = tuple(
        SectionView(KINDS.get(s.kind, str(s.kind)), s.offset, s.length, f"{s.crc32:08x}", s.sha256)
        for s in manifest.sections
    )
    by_kind: Counter[str] = Counter()
    for section in sections:
        by_kind[section.kind] += section.length
    targets = tuple(_target(opened, number) for number in range(len(program.targets)))
    return Inspection(
        file=opened.name,
        format_version=opened.version,
        file_bytes=opened.view.nbytes,
        crc32=f"{zlib.crc32(opened.view):08x}",
        producer=program.producer,
        engine=program.engine,
        model=program.model,
        options=program.options,
        inputs=program.inputs,
        kernel_count=sum(len(target.kernels) for target in targets),
        head_bytes=min((section.offset for section in sections), default=opened.view.nbytes),
        section_bytes=dict(by_kind),
        sections=sections,
        targets=targets,
        signatures=signed,
        encrypted_with=manifest.key,
        readable=readable,
    )


def text(opened: Opened) -> str:
    """The manifest as protobuf text; ``protoc --encode`` with manifest.proto reads it back."""
    return text_format.MessageToString(opened.manifest, as_utf8=True)


def _target(opened: Opened, number: int) -> TargetView:
    program, message = opened.program, opened.manifest.targets[number]
    target = program.targets[number]
    schedule = target.schedule
    launches = Counter(launch.kernel for launch in schedule.launches)
    unit_of = {kernel: index for index, unit in enumerate(target.units) for kernel in unit.kernels}
    sources = [opened.manifest.sections[kernel.source] for kernel in message.schedule.kernels]
    binaries = [unit.binary for unit in target.units if unit.binary is not None]
    return TargetView(
        signature=target.signature,
        build_options=schedule.build_options,
        inputs=_ports(schedule.inputs),
        outputs=_ports(schedule.outputs),
        kernels=tuple(
            KernelView(
                kernel.name,
                kernel.family,
                kernel.parameters,
                unit_of[index],
                launches[index],
                sources[index].length,
                sources[index].sha256,
            )
            for index, kernel in enumerate(schedule.kernels)
        ),
        launches=len(schedule.launches),
        units=len(target.units),
        units_with_binary=len(binaries),
        binary_bytes=sum(map(len, binaries)),
        source_bytes=sum(section.length for section in {s.offset: s for s in sources}.values()),
        arena_bytes=schedule.arena_bytes,
        constant_bytes=schedule.constant_bytes,
        constants_inside=target.constants is not None,
        provenance=target.provenance,
        hosts=tuple(
            HostView(
                step.at,
                step.provider,
                tuple(step.node.split()),
                _ports(step.inputs),
                _ports(step.outputs),
                opened.manifest.sections[part.model].length,
                opened.manifest.sections[part.model].sha256,
            )
            for step, part in zip(schedule.hosts, message.schedule.hosts, strict=True)
        ),
        nodes=schedule.nodes,
        bucket=str(target.bucket) if program.inputs else "",
    )


def _ports(ports: Sequence[Port]) -> tuple[PortView, ...]:
    return tuple(PortView(port.name, port.dtype, port.shape) for port in ports)
