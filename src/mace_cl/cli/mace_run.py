"""The program ``mace_run``: MACE's tool of this name, with its flags."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_cl.tools.mace_run import MaceRunResult, Named

__all__ = ["mace_run"]

_WITHOUT_MEANING = {
    "model_name": "",
    "input_data_type": "the model's own types are used, and files hold 32-bit elements",
    "output_data_type": "the model's own types are used, and files hold 32-bit elements",
    "input_data_format": "",
    "output_data_format": "",
    "opencl_cache_reuse_policy": "MACE_CL_REUSE says what becomes of a program of another driver",
    "accelerator_binary_file": "--provider of `mace-cl run` is for accelerators",
    "accelerator_storage_file": "--provider of `mace-cl run` is for accelerators",
    "accelerator_cache_policy": "--provider of `mace-cl run` is for accelerators",
    "gpu_perf_hint": "OpenCL's own scheduling is used",
    "gpu_priority_hint": "OpenCL's own scheduling is used",
    "num_threads": "the OpenCL runtime chooses its threads",
    "omp_num_threads": "the OpenCL runtime chooses its threads",
    "cpu_affinity_policy": "the OpenCL runtime chooses its threads",
    "apu_boost_hint": "APUs are not driven",
    "apu_preference_hint": "APUs are not driven",
    "malloc_check_cycle": "memory is allocated once, before the first run",
    "fake_warmup": "kernels are always compiled before the first run",
}
"""Flags of MACE that change nothing here, and why; those without a reason need no note."""
_MAX_FLAGS = 1 << 16
_ACCELERATORS = ("HEXAGON", "DSP", "HTA", "APU", "HTP", "QUANTIZE")


def mace_run(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code, one of those of `mace-cl`."""
    from mace_cl.cli.app import main

    # gflags takes one hyphen or two, and --no before a flag that is on or off
    given = [
        f"-{text}" if text[:1] == "-" and text[1:2].isalpha() else text
        for text in (sys.argv[1:] if argv is None else argv)
    ]
    return main(given, _parser(), expand=_with_flag_files)


def _with_flag_files(given: Sequence[str]) -> list[str]:
    """The flags, those of ``--flagfile=FILE`` put before, and those of `RUN_CONFIG` where no model is named.

    Raises:
        InputError: a file of flags can't be read, or is none.
    """
    from mace_cl.tools.deploy import RUN_CONFIG

    texts, files, rest = list(given), [], []
    while texts:
        text = texts.pop(0)
        if text == "--flagfile" and texts:
            files.append(Path(texts.pop(0)))
        elif text.startswith("--flagfile="):
            files.append(Path(text.partition("=")[2]))
        else:
            rest.append(text)
    named = any(text.split("=")[0] == "--model_file" for text in rest)
    if not files and not named and Path(RUN_CONFIG).is_file():
        files = [Path(RUN_CONFIG)]
        _note(f"flags of {RUN_CONFIG} are used")
    return [flag for path in files for flag in _flags(path)] + rest


def _flags(path: Path) -> list[str]:
    """As gflags has them: a flag in each line, but for empty ones and those that begin with #."""
    from mace_cl.errors import InputError

    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FLAGS + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--flagfile={path}: can't be read ({error}); give a text file of flags") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in lines if not re.match("--?[a-z]", line) or line.lstrip("-").startswith("flagfile")]
    if wrong or len(text) > _MAX_FLAGS:
        raise InputError(
            f"--flagfile={path}: should have a flag such as --round=10 in each line"
            + (f", not {wrong[0][:60]!r}" if wrong else f", and at most {_MAX_FLAGS} bytes")
        )
    return [f"-{line}" if line[1:2] != "-" else line for line in lines]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace_run",
        description="Runs a model of any format that mace-cl reads on raw files and times it, as MACE's tool does.",
        epilog="Where no model is named, the flags are those of mace_run.config in the current directory, which\n"
        "`mace-cl convert --config` writes. `mace-cl run` takes images and arrays, and shows more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(verb=_run)
    add = parser.add_argument
    add("--model_file", type=Path, required=True, metavar="FILE", help="a model or a compiled program")
    add("--model_data_file", type=Path, metavar="FILE", help="MACE's .data or Caffe's .caffemodel")
    add("--input_node", default="", metavar="NAME,…", help="default: the model's")
    add("--input_shape", default="", metavar="N,…:N,…", help="default: the model's")
    add("--output_node", default="", metavar="NAME,…", help="default: the model's")
    add("--output_shape", default="", metavar="N,…:N,…", help="default: the model's")
    add("--input_file", default="", metavar="PREFIX", help="PREFIX_NAME holds the elements; default: random numbers")
    add("--output_file", default="", metavar="PREFIX", help="PREFIX_NAME is written")
    add("--input_dir", type=Path, metavar="DIR", help="each file NAME… in it is a sample; the other inputs' end alike")
    add("--output_dir", type=Path, default=Path("output"), metavar="DIR",
        help="with --input_dir: NAME… is written for each sample, default: %(default)s")  # fmt: skip
    add("--flagfile", metavar="FILE", help="read flags from a file, one in a line")
    add("--opencl_cache_full_path", type=Path, metavar="FILE", help="compiled program to use and, if need be, to write")
    add("--opencl_binary_file", type=Path, metavar="FILE", help="the same, preferred where it exists")
    add(
        "--opencl_parameter_file",
        type=Path,
        metavar="FILE",
        help="tuning records to use, of `mace-cl tune export`",
    )
    add("--round", type=int, default=1, metavar="N", help="timed runs after the first, default: 1")
    add("--restart_round", type=int, default=1, metavar="N", help="start anew so many times, default: 1")
    add("--device", "--runtime", dest="device", metavar="GPU|CPU|DEVICE",
        help="OpenCL; the host alone; or a device as mace-cl has it")  # fmt: skip
    _switch(parser, "benchmark", "time each operation too")
    _switch(parser, "exact", "forbid Winograd's method, as winograd: 0 in a deployment file does")
    _switch(parser, "dump_binary_info", "print six lines about the compiled kernels in --model_file, and do no more")
    others = parser.add_argument_group("accepted, without effect")
    for name in _WITHOUT_MEANING:
        others.add_argument(f"--{name}", nargs="?", const="true", metavar="X")
    add("--traceback", action="store_true", help="show where in the code an error came from")
    return parser


def _switch(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(f"--{name}", type=_on, nargs="?", const=True, default=False, metavar="true|false", help=text)
    parser.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)


def _on(text: str) -> bool:
    if text.lower() in ("1", "t", "true", "y", "yes", "0", "f", "false", "n", "no"):
        return text.lower() in ("1", "t", "true", "y", "yes")
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _run(options: argparse.Namespace) -> None:
    if options.dump_binary_info:
        from mace_cl.cli.app import main

        sys.exit(main(["inspect", "--dump_binary_info", "--", str(options.model_file)]))
    from mace_cl.errors import InputError
    from mace_cl.tools import mace_run as tool

    if options.round < 0 or options.restart_round < 1:
        raise InputError("--round must be at least 0 and --restart_round at least 1")
    for name, reason in _WITHOUT_MEANING.items():
        if reason and getattr(options, name) is not None:
            _note(f"--{name} has no effect: {reason}")
    device, runtime = options.device, None
    if device and device.upper() in ("CPU", "GPU", *_ACCELERATORS):
        if device.upper() in _ACCELERATORS:
            _note(f"--device={device}: is not driven; OpenCL runs the model")
        runtime, device = "cpu" if device.upper() == "CPU" else None, None
    program = options.opencl_cache_full_path
    if options.opencl_binary_file is not None:
        if options.opencl_binary_file.is_file():
            program = options.opencl_binary_file
        else:
            _note(f"--opencl_binary_file={options.opencl_binary_file}: no such file; the model is compiled if need be")
    if options.opencl_parameter_file is not None:
        _take_over(options.opencl_parameter_file)
    args = tool.MaceRunArgs(
        model=options.model_file,
        weights=options.model_data_file,
        inputs=_named(options.input_node, options.input_shape, "input"),
        outputs=_named(options.output_node, options.output_shape, "output"),
        input_file=options.input_file,
        output_file=options.output_file,
        input_dir=options.input_dir,
        output_dir=options.output_dir,
        program=program,
        rounds=options.round,
        profile=options.benchmark,
        device=device,
        runtime=runtime,
        exact=options.exact or None,
    )
    for _ in range(options.restart_round):
        _show(tool.run(args))


def _take_over(path: Path) -> None:
    """Tuning records of a file, which is used when something is compiled."""
    from mace_cl.errors import InputError
    from mace_cl.tools import tune

    if not path.is_file():
        _note(f"--opencl_parameter_file={path}: no such file; what is compiled has the parameters known here")
        return
    try:
        tune.import_(path)
    except InputError as error:
        _note(f"--opencl_parameter_file has no effect: {error}")


def _note(text: str) -> None:
    print("mace_run:", text, file=sys.stderr)


def _named(names: str, shapes: str, what: str) -> tuple[Named, ...]:
    """``a,b`` and ``1,2:3,4`` as MACE has them."""
    from mace_cl.errors import InputError
    from mace_cl.tools.mace_run import Named

    found: list[tuple[int, ...]] = []
    for text in filter(None, shapes.split(":")):
        sizes = [size.strip() for size in text.split(",")]
        if not all(size.isdecimal() and 0 < int(size) < 1 << 31 for size in sizes):
            raise InputError(f"--{what}_shape={shapes}: should be like 1,224,224,3, with a colon between shapes")
        found.append(tuple(map(int, sizes)))
    nodes = [name.strip() for name in names.split(",") if name.strip()]
    if found and len(found) != len(nodes):
        raise InputError(
            f"--{what}_shape={shapes}: has {len(found)} shapes, but --{what}_node has {len(nodes)} names; give one each"
        )
    if len(set(nodes)) != len(nodes):
        raise InputError(f"--{what}_node={names}: give each name once")
    return tuple(Named(name, found[number] if found else None) for number, name in enumerate(nodes))


def _show(result: MaceRunResult) -> None:
    from mace_cl.cli.output import print_lines, print_table

    rows = [("program", result.decision)]
    rows += [(f"input {name}", source) for name, source in result.inputs.items()]
    print_lines([*rows, *(("written", str(path)) for path in result.written)])
    if result.operations:
        columns = ("operation", "node", "first ms", "avg ms")
        print_table(
            columns,
            [(one.type, one.node, f"{one.first * 1e3:.3f}", f"{one.seconds * 1e3:.3f}") for one in result.operations],
            (2, 3),
        )
    # programs read the line that begins with "time"
    rule = "=" * 56
    print(f"{rule}\n     capability(CPU)        init      warmup     run_avg\n{rule}")
    print(f"time {result.capability:15.3f} {result.init:11.3f} {result.warmup:11.3f} {result.run_average:11.3f}")
