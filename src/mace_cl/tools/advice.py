"""Notes for a device and a model: what docs/troubleshooting.md knows, as far as it applies here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mace_cl.device import Device
from mace_cl.device.quirks import quirk_for

__all__ = ["NOTES", "Facts", "Note", "notes"]


@dataclass(frozen=True)
class Note:
    """What one sees, what it means and what to do."""

    see: str
    means: str
    do: str


@dataclass(frozen=True)
class Facts:
    """What notes hang on.

    ``hosted`` counts the nodes that the host runs; ``spread`` is p99 over p50 of the latency; ``differs`` tells that
    the outputs are not bit for bit the reference's, ``unproven`` that a first start tried the file in a child process,
    ``safe`` that kernels are built without the compiler's optimisations, ``part_of_cores`` that this process may not
    use all of the machine's.
    """

    device: Device
    hosted: int = 0
    spread: float = 1.0
    differs: bool = False
    unproven: bool = False
    safe: bool = False
    part_of_cores: bool = False


NOTES: tuple[tuple[Callable[[Facts], bool], Note], ...] = (
    (
        lambda facts: quirk_for(facts.device).needs_linker,
        Note(
            'a device "can\'t compile, as the linker `ld` is not on PATH"',
            "PoCL links with the system's linker",
            "`apt install binutils` (Debian, Ubuntu) on each machine that compiles; programs compiled before still "
            "load without it",
        ),
    ),
    (
        lambda facts: not (facts.device.can_compile or quirk_for(facts.device).needs_linker),
        Note(
            "a device can't compile",
            "its driver has no compiler",
            "compile on a machine with the same device and driver that has one, and ship the program",
        ),
    ),
    (
        lambda facts: facts.device.runtime == "intel",
        Note(
            "compiling takes long on Intel's runtime",
            "its compiler takes 0.1 to 0.5 s per kernel",
            "once per model; `--jobs` sets the number of processes",
        ),
    ),
    (
        lambda facts: facts.device.runtime == "intel",
        Note(
            "`load` is long at each start on Intel's runtime",
            "it links the binaries anew whenever they are loaded",
            "nothing; PoCL 3.1 loads faster where starts matter most",
        ),
    ),
    (
        lambda facts: facts.device.runtime == "pocl-3.0",
        Note(
            "PyPI's PoCL 3.0 is slower than other runtimes",
            "kernels are 8 wide there, as its compiler crashes on some that are 16 wide",
            "`apt install pocl-opencl-icd`, or `conda install -c conda-forge pocl`, brings a newer one; Intel's "
            'runtime is `pip install "mace-cl[intel]"`',
        ),
    ),
    (
        lambda facts: facts.part_of_cores and facts.device.runtime.startswith("pocl"),
        Note(
            "latency on PoCL doubles for seconds at a time",
            "its threads share a core, where the system's scheduler put them; as this process may use only a part of "
            "the cores, mace-cl does not bind them",
            "give the process all cores, or bind the threads yourself: `POCL_AFFINITY=1`",
        ),
    ),
    (
        lambda facts: quirk_for(facts.device).by_name_only,
        Note(
            "figures on Oclgrind are of no use",
            "it is a simulator that checks every memory access",
            "measure on a real device: `mace-cl devices`",
        ),
    ),
    (
        lambda facts: facts.device.kind == "cpu" and facts.spread > 2,
        Note(
            "p99 is more than twice p50",
            "other processes took the processor's cores in between, or its clock changed",
            "measure on a quiet machine; compare medians",
        ),
    ),
    (
        lambda facts: facts.unproven,
        Note(
            "the first start from a file takes longer than the next (`proof`)",
            "binaries that are new to this device and driver are tried in a child process, so that a bad one harms "
            "nothing; the store remembers that they work",
            "nothing; with `--no-store` each start tries them",
        ),
    ),
    (
        lambda facts: facts.hosted > 0,
        Note(
            "a model is slower than expected",
            "parts of it may run on the host",
            "`mace-cl run MODEL --where`",
        ),
    ),
    (
        lambda facts: "cl_khr_fp64" not in facts.device.extensions,
        Note(
            "float64 runs on the host",
            "the device lacks the extension `cl_khr_fp64`",
            "export the model in float32",
        ),
    ),
    (
        lambda facts: facts.safe,
        Note(
            "some kernels are built without the compiler's optimisations",
            "the driver's compiler got them wrong with optimisations: their answers departed from ONNX Runtime's",
            "a newer driver; `mace-cl inspect` names them (`safe kernels`)",
        ),
    ),
    (
        lambda facts: facts.differs,
        Note(
            "answers differ a little from ONNX Runtime or another engine",
            "fp32 sums in another order; up to 1e-4 of the largest output is normal",
            "compare with `mace-cl validate MODEL`, which shows the difference",
        ),
    ),
)
"""Each with when it applies; docs/troubleshooting.md has the same rows."""


def notes(facts: Facts) -> tuple[Note, ...]:
    """Those that apply."""
    return tuple(note for applies, note in NOTES if applies(facts))
