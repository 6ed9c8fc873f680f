"""`Program` to protobuf manifest and back.  Pure: no files; the bytes of sections come and go as views."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence

from mace_cl.device.signature import Signature
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.bucket import Input, Value
from mace_cl.program.cipher import FEATURE, Cipher
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target, Unit
from mace_cl.schedule import HostStep, Kernel, Launch, Node, Port, Schedule, Slot

__all__ = ["FEATURES", "KINDS", "from_manifest", "signature_of", "to_manifest"]

KINDS = {number: name.removeprefix("KIND_").lower() for name, number in pb.Kind.items()}
"""The names of the kinds of sections that this version knows, by number."""

_HOST_FEATURE, _BUCKETS_FEATURE, _SEQUENCES_FEATURE, _IMAGES_FEATURE = "host", "buckets", "sequences", "images"
FEATURES = frozenset({FEATURE, _HOST_FEATURE, _BUCKETS_FEATURE, _SEQUENCES_FEATURE, _IMAGES_FEATURE})
"""What a manifest may require of a reader."""

_MAX_PARTS = 1 << 18
_TARGET_PARTS = 16
_ENCRYPTED = (pb.KIND_SOURCE, pb.KIND_CONSTANTS, pb.KIND_HOST)
_SPACES = {"arena": pb.SPACE_ARENA, "constants": pb.SPACE_CONSTANTS}
_SPACE_NAMES = {number: name for name, number in _SPACES.items()}


class _Sections:
    """The sections of a file in the making: equal content of one kind is kept once."""

    def __init__(self, manifest: pb.Manifest, cipher: Cipher | None) -> None:
        self.payloads: list[memoryview] = []
        self._manifest = manifest
        self._cipher = cipher
        self._index: dict[tuple[int, str], int] = {}

    def add(self, kind: pb.Kind, content: bytes | memoryview) -> int:
        payload = memoryview(content).cast("B")
        digest = hashlib.sha256(payload).hexdigest()
        index = self._index.setdefault((int(kind), digest), len(self.payloads))
        if index == len(self.payloads):
            nonce = b""
            if self._cipher is not None and kind in _ENCRYPTED:
                nonce, hidden = self._cipher.encrypt(int(kind), self._manifest.model.sha256, payload)
                payload, digest = memoryview(hidden), hashlib.sha256(hidden).hexdigest()
            self.payloads.append(payload)
            self._manifest.sections.add(
                kind=kind, offset=1, length=payload.nbytes, crc32=zlib.crc32(payload), sha256=digest, nonce=nonce
            )
        return index


def to_manifest(program: Program, cipher: Cipher | None = None) -> tuple[pb.Manifest, list[memoryview]]:
    """The manifest of a checked ``program`` and, in its order, the content of each section.

    With a ``cipher`` sources and constants are encrypted.
    Every section's offset is still 1; as offsets have a fixed width, the manifest's size is final.
    Sections come in the order sources, binaries, host models, constants and golden values by target.

    Raises:
        ValueError: the program has more parts than a reader takes.
    """
    manifest = pb.Manifest(
        producer=program.producer,
        engine=program.engine,
        model=pb.Model(name=program.model.name, sha256=program.model.sha256),
        options=_to_pairs(program.options),
        requires=_features(program, cipher),
        key=cipher.id if cipher else "",
        inputs=[
            pb.Input(
                name=one.name,
                dtype=one.dtype,
                shape=[-1 if size is None else size for size in one.shape or ()],
                open=one.shape is None,
                parameter=one.parameter,
            )
            for one in program.inputs
        ],
    )
    sections = _Sections(manifest, cipher)
    targets = program.targets
    sources = [[sections.add(pb.KIND_SOURCE, k.source.encode()) for k in t.schedule.kernels] for t in targets]
    binaries = [
        [None if u.binary is None else sections.add(pb.KIND_BINARY, u.binary) for u in t.units] for t in targets
    ]
    hosts = [[sections.add(pb.KIND_HOST, step.model) for step in t.schedule.hosts] for t in targets]
    for target, target_sources, target_binaries, models in zip(targets, sources, binaries, hosts, strict=True):
        signature = target.signature
        constants = target.constants
        manifest.targets.add(
            signature=pb.Signature(
                vendor=signature.vendor,
                device=signature.device,
                driver=signature.driver,
                platform=signature.platform,
                platform_version=signature.platform_version,
                device_version=signature.device_version,
                c_version=signature.c_version,
                properties=_to_pairs(signature.properties),
            ),
            schedule=_to_schedule(target.schedule, target_sources, models),
            units=[
                pb.Unit(kernels=unit.kernels, binary=binary, safe=unit.safe)
                if binary is None
                else pb.Unit(
                    kernels=unit.kernels,
                    binary=binary,
                    safe=unit.safe,
                    bond=_bond(manifest, target, target_sources, unit.kernels, binary),
                )
                for unit, binary in zip(target.units, target_binaries, strict=True)
            ],
            constants=None if not constants else sections.add(pb.KIND_CONSTANTS, constants),
            provenance=_to_pairs(target.provenance),
            golden=[
                pb.Golden(output=name, values=sections.add(pb.KIND_GOLDEN, values)) for name, values in target.golden
            ],
            values=[pb.Value(name=v.name, dtype=v.dtype, shape=v.shape, data=v.data) for v in target.values],
        )
    _bound(manifest)
    return manifest, sections.payloads


def _features(program: Program, cipher: Cipher | None) -> list[str]:
    hosts = any(target.schedule.hosts for target in program.targets)
    shares = any(target.schedule.shares for target in program.targets)
    images = any(kernel.images for target in program.targets for kernel in target.schedule.kernels)
    wanted = {
        FEATURE: cipher, _HOST_FEATURE: hosts, _BUCKETS_FEATURE: program.inputs, _SEQUENCES_FEATURE: shares,
        _IMAGES_FEATURE: images,
    }  # fmt: skip
    return [feature for feature, needed in wanted.items() if needed]


def _bond(manifest: pb.Manifest, target: Target, sources: Sequence[int], kernels: Sequence[int], binary: int) -> bytes:
    """Ties a binary to what it was compiled from and for, all by the hashes in the manifest."""
    schedule, hashes = target.schedule, manifest.sections
    made_of = [[schedule.kernels[kernel].name, hashes[sources[kernel]].sha256] for kernel in kernels]
    parts: list[object] = [hashes[binary].sha256, made_of, schedule.build_options, target.signature.digest()]
    parts += [schedule.shares, list(kernels)] if schedule.shares else []
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()


def _to_pairs(pairs: Pairs) -> list[pb.Pair]:
    return [pb.Pair(name=name, value=value) for name, value in pairs]


def _to_schedule(schedule: Schedule, sources: Sequence[int], models: Sequence[int]) -> pb.Schedule:
    slots: dict[Slot, int] = {}

    def index(slot: Slot) -> int:
        return slots.setdefault(slot, len(slots))

    def ports(of: tuple[Port, ...]) -> list[pb.Port]:
        return [
            pb.Port(
                name=p.name,
                dtype=p.dtype,
                shape=p.shape or (),
                slot=index(p.slot) if p.slot else 0,
                host=p.slot is None,
                open=p.shape is None,
            )
            for p in of
        ]

    message = pb.Schedule(
        arena_bytes=schedule.arena_bytes,
        constant_bytes=schedule.constant_bytes,
        build_options=schedule.build_options,
        inputs=ports(schedule.inputs),
        outputs=ports(schedule.outputs),
        kernels=[
            pb.Kernel(
                name=kernel.name,
                family=kernel.family,
                source=source,
                parameters=[pb.Parameter(name=name, value=value) for name, value in kernel.parameters],
                images=kernel.images,
            )
            for kernel, source in zip(schedule.kernels, sources, strict=True)
        ],
        launches=[
            pb.Launch(
                kernel=launch.kernel,
                global_size=launch.global_size,
                local_size=launch.local_size,
                args=[index(slot) for slot in launch.args],
                node=launch.node,
                flops=launch.flops,
            )
            for launch in schedule.launches
        ],
        hosts=[
            pb.HostStep(
                at=step.at,
                provider=step.provider,
                model=model,
                inputs=ports(step.inputs),
                outputs=ports(step.outputs),
                constants=ports(step.constants),
                node=step.node,
            )
            for step, model in zip(schedule.hosts, models, strict=True)
        ],
        nodes=[pb.Node(name=node.name, op=node.op, reason=node.reason) for node in schedule.nodes],
        shares=schedule.shares,
    )
    message.slots.extend(pb.Slot(space=_SPACES[s.space], offset=s.offset, size=s.size) for s in slots)
    return message


def _bound(manifest: pb.Manifest) -> None:
    """Limit what becomes of a manifest: a few bytes of it may turn into an object of hundreds.

    Counts lists before it looks inside them.
    """
    parts = 0

    def count(*more: int) -> None:
        nonlocal parts
        parts += sum(more)
        if parts > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS} parts (kernels, launches, sizes, arguments, …)")

    count(len(manifest.options), len(manifest.sections), _TARGET_PARTS * len(manifest.targets), len(manifest.inputs))
    count(*(len(one.shape) for one in manifest.inputs))
    for target in manifest.targets:
        schedule = target.schedule
        count(
            len(target.provenance),
            len(target.golden),
            len(target.signature.properties),
            len(target.units),
            len(schedule.kernels),
            len(target.values),
        )
        count(*(len(value.shape) for value in target.values))
        count(len(schedule.slots), len(schedule.launches))
        count(*(len(unit.kernels) for unit in target.units))
        count(len(schedule.hosts), len(schedule.nodes))
        ports = [schedule.inputs, schedule.outputs]
        ports += [some for step in schedule.hosts for some in (step.inputs, step.outputs, step.constants)]
        count(*map(len, ports))
        count(*(len(port.shape) for some in ports for port in some))
        count(*(len(kernel.parameters) + len(kernel.images) for kernel in schedule.kernels))
        count(*(len(x.global_size) + len(x.local_size) + len(x.args) for x in schedule.launches))


def from_manifest(manifest: pb.Manifest, sections: Sequence[memoryview]) -> Program:
    """The program that ``manifest`` describes, checked; ``sections`` are views of the sections' bytes.

    Only sources are read, their checksums being the caller's business; binaries and constants stay views.

    Raises:
        ValueError: naming what does not fit.
    """
    _bound(manifest)
    kinds = [section.kind for section in manifest.sections]
    texts: dict[int, str] = {}

    def content(index: int, kind: pb.Kind, what: str) -> memoryview:
        if index >= len(sections) or kinds[index] != kind:
            raise ValueError(f"{what} refers to section {index}, which is not one of its kind")
        return sections[index]

    def source(index: int, what: str) -> str:
        if index not in texts:
            texts[index] = str(content(index, pb.KIND_SOURCE, what), "utf-8")
        return texts[index]

    def constants(target: pb.Target) -> memoryview | None:
        if target.HasField("constants"):
            return content(target.constants, pb.KIND_CONSTANTS, "the constants")
        return None if target.schedule.constant_bytes else memoryview(b"")

    program = Program(
        producer=manifest.producer,
        engine=manifest.engine,
        model=ModelIdentity(manifest.model.name, manifest.model.sha256),
        options=_from_pairs(manifest.options),
        targets=tuple(
            Target(
                signature=signature_of(target.signature),
                schedule=_from_schedule(
                    target.schedule,
                    [source(kernel.source, f"kernel {kernel.name!r}") for kernel in target.schedule.kernels],
                    [content(step.model, pb.KIND_HOST, f"host step {step.node!r}") for step in target.schedule.hosts],
                ),
                units=tuple(
                    Unit(
                        kernels=tuple(unit.kernels),
                        binary=content(unit.binary, pb.KIND_BINARY, f"unit {number}")
                        if unit.HasField("binary")
                        else None,
                        safe=unit.safe,
                    )
                    for number, unit in enumerate(target.units)
                ),
                constants=constants(target),
                provenance=_from_pairs(target.provenance),
                golden=tuple(
                    (one.output, content(one.values, pb.KIND_GOLDEN, "a golden output")) for one in target.golden
                ),
                values=tuple(Value(v.name, v.dtype, tuple(v.shape), v.data) for v in target.values),
            )
            for target in manifest.targets
        ),
        inputs=tuple(
            Input(
                one.name,
                one.dtype,
                None if one.open else tuple(None if size == -1 else size for size in one.shape),
                one.parameter,
            )
            for one in manifest.inputs
        ),
    )
    program.check()
    for number, (target, message) in enumerate(zip(program.targets, manifest.targets, strict=True)):
        sources = [kernel.source for kernel in message.schedule.kernels]
        for index, unit in enumerate(message.units):
            if unit.HasField("binary") and unit.bond != _bond(manifest, target, sources, unit.kernels, unit.binary):
                raise ValueError(
                    f"target {number}, unit {index}: section {unit.binary} is not the binary that was compiled "
                    "from this unit's kernels for this device"
                )
    return program


def signature_of(message: pb.Signature) -> Signature:
    """The signature that a manifest states."""
    return Signature(
        vendor=message.vendor,
        device=message.device,
        driver=message.driver,
        platform=message.platform,
        platform_version=message.platform_version,
        device_version=message.device_version,
        c_version=message.c_version,
        properties=_from_pairs(message.properties),
    )


def _from_pairs(pairs: Sequence[pb.Pair]) -> Pairs:
    return tuple((pair.name, pair.value) for pair in pairs)


def _from_schedule(message: pb.Schedule, sources: Sequence[str], models: Sequence[memoryview]) -> Schedule:
    slots = [Slot(_SPACE_NAMES.get(s.space, str(s.space)), s.offset, s.size) for s in message.slots]

    def ports(of: Sequence[pb.Port]) -> tuple[Port, ...]:
        return tuple(
            Port(p.name, p.dtype, None if p.open else tuple(p.shape), None if p.host else slots[p.slot]) for p in of
        )

    try:
        return Schedule(
            inputs=ports(message.inputs),
            outputs=ports(message.outputs),
            kernels=tuple(
                Kernel(
                    kernel.name,
                    kernel.family,
                    text,
                    tuple((p.name, p.value) for p in kernel.parameters),
                    tuple(kernel.images),
                )
                for kernel, text in zip(message.kernels, sources, strict=True)
            ),
            launches=tuple(
                Launch(
                    kernel=launch.kernel,
                    global_size=tuple(launch.global_size),  # type: ignore[arg-type]  # Schedule.check counts them
                    local_size=tuple(launch.local_size),  # type: ignore[arg-type]
                    args=tuple([slots[index] for index in launch.args]),
                    node=launch.node,
                    flops=launch.flops,
                )
                for launch in message.launches
            ),
            arena_bytes=message.arena_bytes,
            constant_bytes=message.constant_bytes,
            build_options=message.build_options,
            hosts=tuple(
                HostStep(
                    at=step.at,
                    provider=step.provider,
                    model=model,
                    inputs=ports(step.inputs),
                    outputs=ports(step.outputs),
                    constants=ports(step.constants),
                    node=step.node,
                )
                for step, model in zip(message.hosts, models, strict=True)
            ),
            nodes=tuple(Node(node.name, node.op, node.reason) for node in message.nodes),
            shares=message.shares,
        )
    except IndexError:
        raise ValueError(f"a port or launch refers to a slot beyond the {len(slots)} that there are") from None
