"""Tell what a start would use, rebuild or refuse, without running or changing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError
from mace_cl.tools.common import DeviceName

if TYPE_CHECKING:
    from mace_cl.device import Device
    from mace_cl.program.format import Opened

__all__ = ["TargetReason", "WhyArgs", "WhyResult", "run"]


@dataclass(frozen=True)
class WhyArgs:
    """A model or compiled program, and what a run of it would be given."""

    model: Path
    program: Path | None = None
    device: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    store: bool | None = None
    outputs: tuple[str, ...] = ()
    runtime: str | None = None
    provider: str | None = None
    trust: bool | None = None


@dataclass(frozen=True)
class TargetReason:
    """A part of the file that was found: how it differs from what this device needs, and what became of it.

    ``proven`` tells that its binaries are known to work on this device and driver; ``bucket`` are the shapes and
    parameters that it is for, of a model that leaves them open.
    """

    device: str
    driver: str
    because: str
    differences: tuple[str, ...]
    proven: bool
    bucket: str = ""


@dataclass(frozen=True)
class WhyResult:
    """``action`` is "use" or "compile"; ``code`` and ``sentence`` are those that a run gives and logs.

    ``program`` is the file that was found, or "" where there is none; ``proven`` tells that the part to be
    used is known to work here: else a child process tries it first.
    """

    device: DeviceName
    program: str
    action: str
    code: str
    sentence: str
    proven: bool
    targets: tuple[TargetReason, ...]


def run(args: WhyArgs) -> WhyResult:
    """Read what a start would read, and decide as it would.

    Raises:
        InputError: there is no such file, or a program was given with options that go with a model.
        DeviceError: no device fits.
        ProgramError, StorageError, SettingsError, ModelError: a run would raise it too.
    """
    from mace_cl.device import find
    from mace_cl.engine import opened_if_program, request_for
    from mace_cl.program.format import Opened
    from mace_cl.settings import Settings
    from mace_cl.start import foresee, open_inputs, seek
    from mace_cl.variants import first_bucket

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    settings = Settings.load(
        device=args.device, store=args.store, runtime=args.runtime, provider=args.provider, trust=args.trust
    )
    given = opened_if_program(args.model, settings)
    if given is not None and (args.program is not None or args.shapes or args.outputs):
        raise InputError(f"{args.model} is a compiled program; --program, --shape and --outputs go with a model")
    device = find(settings.device, alone=True)
    request = request_for(args.model, given, device, settings, args.program, args.shapes or None, outputs=args.outputs)
    sought = seek(request, given)
    request = replace(request, inputs=open_inputs(request, sought))
    if request.inputs:
        request = replace(request, bucket=first_bucket(request, sought))
    found, decision = foresee(request, given)
    targets = _targets(found, device, settings.store_dir if settings.store else None)
    proven = decision.target is not None and targets[decision.target].proven
    program = found.name if isinstance(found, Opened) else ""
    return WhyResult(DeviceName.of(device), program, decision.action, decision.code, decision.sentence, proven, targets)


def _targets(found: Opened | object, device: Device, store: Path | None) -> tuple[TargetReason, ...]:
    from mace_cl.program.format import Opened
    from mace_cl.program.proofs import Proofs, proof_of

    if not isinstance(found, Opened):
        return ()
    here, proofs = device.signature, Proofs(store)
    return tuple(
        TargetReason(
            device=target.signature.device,
            driver=target.signature.driver,
            because=dict(target.provenance).get("because", ""),
            differences=here.differences(target.signature),
            proven=proofs.known(proof_of(found, number, here)),
            bucket=str(target.bucket) if found.program.inputs else "",
        )
        for number, target in enumerate(found.program.targets)
    )
