"""What programs are keyed by: the device's signature, the engine, and for a file its model and parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError

if TYPE_CHECKING:
    from mace_cl.device import Signature
    from mace_cl.program.program import Pairs

__all__ = ["FingerprintArgs", "FingerprintResult", "ProgramPrint", "SignaturePrint", "run"]


@dataclass(frozen=True)
class FingerprintArgs:
    """A compiled program or model to tell of as well, if any."""

    file: Path | None = None
    device: str | None = None


@dataclass(frozen=True)
class SignaturePrint:
    """A device's signature, and the SHA-256 of it: a part fits only a device of the same."""

    runtime: str
    signature: Signature
    sha256: str

    def fields(self) -> list[tuple[str, str]]:
        """Names and values, for people."""
        values = [(name, str(value)) for name, value in vars(self.signature).items() if name != "properties"]
        return [*values, *self.signature.properties, ("sha256", self.sha256)]


@dataclass(frozen=True)
class ProgramPrint:
    """``head`` is the SHA-256 of what a signature covers: text and manifest, with the hash of every section."""

    file: str
    model: str
    model_sha256: str
    options: Pairs
    engine: str
    head: str
    targets: tuple[SignaturePrint, ...]


@dataclass(frozen=True)
class FingerprintResult:
    """``engine`` is the fingerprint of the installed code that turns models into kernels."""

    engine: str
    device: SignaturePrint
    program: ProgramPrint | None
    model_sha256: str | None


def run(args: FingerprintArgs) -> FingerprintResult:
    """Ask the driver and read the file's head; nothing is run.

    Raises:
        InputError: there is no such file.
        DeviceError: no device fits.
        ProgramError, ModelError, StorageError: the file can't be read.
    """
    from mace_cl.device import find
    from mace_cl.identity import engine_fingerprint, model_sha256
    from mace_cl.program.format import is_program
    from mace_cl.settings import Settings

    if args.file is not None and not args.file.is_file():
        raise InputError(f"{args.file}: no such file; check the path")
    device = find(Settings.load(device=args.device).device, alone=True)
    here = SignaturePrint(device.runtime, device.signature, device.signature.digest())
    program, model = None, None
    if args.file is not None:
        with args.file.open("rb") as file:
            head = file.read(16)
        if is_program(head):
            program = _program(args.file)
        else:
            model = model_sha256(args.file)
    return FingerprintResult(engine_fingerprint(), here, program, model)


def _program(path: Path) -> ProgramPrint:
    import hashlib

    from mace_cl.program.format import scan
    from mace_cl.program.manifest import signature_of

    file = scan(path)
    manifest = file.manifest
    signatures = [signature_of(target.signature) for target in manifest.targets]
    return ProgramPrint(
        file=str(path),
        model=manifest.model.name,
        model_sha256=manifest.model.sha256,
        options=tuple((pair.name, pair.value) for pair in manifest.options),
        engine=manifest.engine,
        head=hashlib.sha256(file.message()).hexdigest(),
        targets=tuple(SignaturePrint("", signature, signature.digest()) for signature in signatures),
    )
