"""MACE's compiled-program file, ``mace_cl_compiled_program.bin``, of either layout.

Its keys tell most: the program's name, the options that it was built with, and in them the kernel's name, which
official builds obfuscate.  Two further keys name the platform and the device; ``program_hash_ <key>`` holds parts of
the MD5 of the program's source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from mace_cl.foreign import mace_store
from mace_cl.foreign.mace_names import obfuscate, reveal
from mace_cl.foreign.mace_store import Pair
from mace_cl.foreign.notes import Facts, Format, Notes, printable

__all__ = ["FORMAT", "PROGRAMS", "explain_option", "platform_facts", "program_facts"]

PLATFORM_KEY = "mace_opencl_precompiled_platform_info_key"
DEVICE_KEY = "mace_opencl_precompiled_device_name_key"
HASH_PREFIX = "program_hash_ "

PROGRAMS = frozenset(
    (
        "activation",
        "addn",
        "batch_norm",
        "batch_to_space",
        "bias_add",
        "buffer_to_image",
        "buffer_transform",
        "channel_shuffle",
        "concat",
        "conv_2d",
        "conv_2d_1x1",
        "conv_2d_1x1_buffer",
        "conv_2d_3x3",
        "conv_2d_buffer",
        "crop",
        "deconv_2d",
        "depth_to_space",
        "depthwise_conv2d",
        "depthwise_conv2d_buffer",
        "depthwise_deconv2d",
        "eltwise",
        "extract_image_patches",
        "fully_connected",
        "instance_norm",
        "lpnorm",
        "lstmcell",
        "matmul",
        "mvnorm",
        "pad",
        "pooling",
        "pooling_buffer",
        "reduce",
        "resize_bicubic",
        "resize_bilinear",
        "resize_nearest_neighbor",
        "softmax",
        "softmax_buffer",
        "space_to_batch",
        "space_to_depth",
        "split",
        "sqrdiff_mean",
        "transpose",
        "winograd_transform",
    )
)
"""The OpenCL programs of MACE v1.1.1; older versions had some under other names."""

_ACTIVATIONS = {
    "USE_RELU": "ReLU",
    "USE_RELUX": "ReLU with an upper limit",
    "USE_PRELU": "PReLU",
    "USE_TANH": "tanh",
    "USE_SIGMOID": "sigmoid",
    "USE_LEAKYRELU": "leaky ReLU",
    "USE_ELU": "ELU",
    "USE_HARDSIGMOID": "hard sigmoid",
}
_WORDS = {
    "BIAS": "adds a bias",
    "POOL_AVG": "average pooling",
    "NOT_DIVISIBLE_FOUR": "channels no multiple of 4",
    "DIVISIBLE_FOUR": "channels a multiple of 4",
    "FOLDED_CONSTANT": "batch normalisation folded into scale and offset",
    "NON_QUALCOMM_ADRENO": "for GPUs other than Adreno",
    "NON_UNIFORM_WORK_GROUP": "non-uniform work-groups (Adreno, OpenCL 2.0)",
    "OUT_OF_RANGE_CHECK": "checks image accesses (MACE_OUT_OF_RANGE_CHECK=1)",
}
_ELTWISE = (
    "sum",
    "sub",
    "prod",
    "div",
    "min",
    "max",
    "neg",
    "abs",
    "(a - b)²",
    "pow",
    "equal",
    "floor-div",
    "clip",
    "sign",
)
_REDUCE = ("mean", "min", "max", "prod", "sum")
_DATE = re.compile(r"\bDate: ?(\d\d)/(\d\d)/(\d\d(?:\d\d)?)\b")


def _sniff(view: memoryview) -> bool:
    store, _ = mace_store.glimpse(view)
    return store is not None and not store.is_tuning


def _read(view: memoryview, notes: Notes) -> None:
    store, problems = mace_store.glimpse(view)
    if store is None:
        return
    notes.problems.extend(problems)
    notes.spend(len(store.pairs))
    notes.fact("layout", mace_store.LAYOUTS[store.layout])
    if store.layout == "protobuf":
        notes.fact("crc32", f"{int.from_bytes(view[-4:], 'little'):08x}")
    _describe(store.pairs, notes)


def _describe(pairs: Iterable[Pair], notes: Notes) -> None:
    hashes: dict[str, str] = {}
    programs: list[Pair] = []
    counts: Counter[str] = Counter()
    for pair in pairs:
        if pair.key == PLATFORM_KEY:
            notes.facts.extend(platform_facts(printable(pair.value, 1024)))
        elif pair.key == DEVICE_KEY:
            notes.fact("device", printable(pair.value) or "none named: MACE never uses this file again")
        elif pair.key.startswith(HASH_PREFIX):
            hashes[pair.key.removeprefix(HASH_PREFIX)] = printable(pair.value, 64)
        else:
            programs.append(pair)
    for pair in programs:
        facts = program_facts(pair.key)
        counts[str(dict(facts)["names"])] += 1
        if pair.key in hashes:
            facts += (("source hash", hashes[pair.key]),)
        notes.part(printable(pair.key, 1024), pair.offset, len(pair.value), facts, look=True)
    notes.fact("programs", len(programs))
    notes.fact("program bytes", sum(len(pair.value) for pair in programs))
    notes.fact("names", ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


def platform_facts(text: str) -> Facts:
    """What MACE's platform text tells: name, profile, OpenCL version and driver, MACE's own version.

    Source: ``CL_PLATFORM_NAME, CL_PLATFORM_PROFILE, CL_PLATFORM_VERSION, MaceVersion()``; the OpenCL version may have
    commas in it.
    """
    pieces = text.split(", ")
    if len(pieces) < 4:
        return (("platform", text),)
    version = ", ".join(pieces[2:-1])
    facts: Facts = (("platform", pieces[0]), ("profile", pieces[1]), ("platform version", version))
    if date := _DATE.search(version):
        month, day, year = date.groups()
        facts += (("driver date", f"{year if len(year) == 4 else '20' + year}-{month}-{day}"),)
    branch = version.partition("Remote Branch:")[2].split()
    if branch:
        facts += (("driver branch", branch[0]),)
    return (*facts, ("MACE version", pieces[-1]))


def program_facts(key: str) -> Facts:
    """What a program's key tells: program, kernel, whether names are obfuscated, each option explained."""
    program, *options = key.split(" ")
    kernel, names = None, "without a kernel name"
    explained: list[str] = []
    for option in filter(None, options):
        name, _, value = option.removeprefix("-D").partition("=")
        if value and value == name and option.startswith("-D"):
            kernel, names = name, "plain"
        elif value and value == obfuscate(name) and option.startswith("-D"):
            kernel, names = name, "obfuscated"
        else:
            explained.append(f"{printable(option)}: {explain_option(option)}")
    facts: list[tuple[str, str | tuple[str, ...]]] = [
        ("program", (printable(program) or "(none)") + ("" if program in PROGRAMS else " (not one of MACE v1.1.1)"))
    ]
    if kernel is not None:
        facts.append(("kernel", printable(kernel)))
        if names == "obfuscated":
            facts.append(("kernel's obfuscated name", printable(obfuscate(kernel))))
    return (*facts, ("names", names), *((("options", tuple(explained)),) if explained else ()))


def explain_option(option: str) -> str:
    """What one build option of MACE's kernels means; "not known" where it is none of v1.1.1."""
    name, _, value = option.removeprefix("-D").partition("=")
    if name in _ACTIVATIONS:
        return f"followed by {_ACTIVATIONS[name]}"
    if name in _WORDS:
        return _WORDS[name]
    if name in ("DATA_TYPE", "IN_DATA_TYPE", "OUT_DATA_TYPE"):
        return {"D": "computes in ", "I": "reads ", "O": "writes "}[name[0]] + printable(value)
    if name == "CMD_DATA_TYPE":
        return {"f": "read_imagef and write_imagef", "h": "read_imageh and write_imageh"}.get(value, "image access")
    if name in ("STRIDE", "INPUT_NUM"):
        return f"{'stride' if name == 'STRIDE' else 'number of inputs'} {printable(value)}"
    for key, words in (("ELTWISE_TYPE", _ELTWISE), ("REDUCE_TYPE", _REDUCE)):
        if name == key:
            known = value.isdecimal() and len(value) < 3 and int(value) < len(words)
            return words[int(value)] if known else "not known"
    if value and (clear := reveal(value)) and clear.isascii() and clear.isidentifier() and clear != value:
        return f"not known; {printable(value)} may be the obfuscated {clear}"
    return "not known"


FORMAT = Format("mace-programs", "compiled programs of MACE", _sniff, _read)
