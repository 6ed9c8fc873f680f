"""Deployment files of MACE on the command line: ``convert --config`` and ``run --config``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_cl.tools.deploy import Deployed

__all__ = ["add_config", "add_run_options", "convert_config", "run_config"]


def add_config(group: argparse._ActionsContainer) -> None:
    """``config`` and ``model_name``, a list."""
    group.add_argument("--config", type=Path, metavar="FILE", help="a deployment file of MACE instead of a model")
    group.add_argument(
        "--model_name", "--model-name", action="append", default=[], metavar="NAME",
        help="with --config: only this model of it; repeatable",
    )  # fmt: skip


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """As `add_config`, and where results go and what else is done."""
    group = parser.add_argument_group("deployment files of MACE")
    add_config(group)
    group.add_argument(
        "--build-dir", "--build_dir", type=Path, default=Path("build"), metavar="DIR",
        help="with --config: for what is made, default: %(default)s",
    )  # fmt: skip
    group.add_argument("--validate", action="store_true", help="with --config: as `mace-cl validate`")
    group.add_argument("--benchmark", action="store_true", help="with --config: as `mace-cl benchmark`")
    group.add_argument(
        "--report", type=Path, metavar="FILE",
        help="with --config: as `mace-cl report`, a page; for several networks one each, with their names in FILE's",
    )  # fmt: skip


def convert_config(options: argparse.Namespace) -> None:
    """``convert --config``."""
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.cli.progress import Steps
    from mace_cl.errors import InputError
    from mace_cl.tools import deploy

    _refuse(options, ("name", "fp16", "safetensors", "shape", "outputs"))
    if options.device and options.to == "mace":
        raise InputError("--device: compiles the portable form; leave it out with --to mace")
    with Steps(False) as progress:
        result = deploy.deploy(
            deploy.DeployArgs(
                config=options.config,
                output=options.output,
                to=options.to,
                models=tuple(options.model_name),
                devices=tuple(options.device or ()),
                device_file=options.device_conf,
                trust=bool(options.trust),
                progress=progress,
            )
        )
    if options.json:
        print_json(result)
        return
    rows = [("note", note) for note in result.notes]
    for one in result.results.values():
        rows += deployed_rows(one)
    print_lines(rows)
    if result.steps:
        print("\nto copy and run:")
        print("\n".join(result.steps))


def deployed_rows(one: Deployed) -> list[tuple[str, str]]:
    """A network and what was written for it, as lines."""
    from mace_cl.cli.output import bytes_
    from mace_cl.tools.deploy import RUN_CONFIG

    made = one.converted
    rows = [(one.name, f"{made.source} ({made.source_format})"), *(("note", note) for note in one.notes)]
    rows += [("written", f"{made.output / file} ({bytes_(size)})") for file, size in made.files.items()]
    rows.append(("written", str(made.output / RUN_CONFIG)))
    if one.program is not None:
        devices = ", ".join(target.device.runtime for target in one.program.targets)
        rows.append(("compiled", f"{one.program.output} ({bytes_(one.program.file_bytes)}) for {devices}"))
    return rows


def run_config(options: argparse.Namespace) -> None:
    """``run --config``; the exit code is that of ``validate`` where an output is below the threshold."""
    import sys

    from mace_cl.cli import benchmark, run, validate
    from mace_cl.cli.options import preprocessing
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.cli.progress import Steps
    from mace_cl.tools import deploy_run

    _refuse(options, ("shape", "outputs", "program", "output", "random", "where", "timings"))
    with Steps(options.quiet) as progress:
        result = deploy_run.run_config(
            deploy_run.DeployRunArgs(
                config=options.config,
                output=options.build_dir,
                models=tuple(options.model_name),
                inputs=tuple(options.input),
                image=preprocessing(options),
                seed=options.seed,
                validation=options.validate,
                benchmark=options.benchmark,
                report=options.report,
                tune=options.tune,
                repeat=options.repeat,
                top=options.top,
                labels=options.labels,
                device=options.device,
                runtime=options.runtime,
                provider=options.provider,
                exact=options.exact,
                trust=bool(options.trust),
                store=options.store,
                jobs=options.jobs,
                progress=progress,
                watch=progress.watch,
            )
        )
    if options.json:
        print_json(result)
    else:
        print_lines([("note", note) for note in result.notes])
        for one in result.results.values():
            print()
            print_lines(deployed_rows(one.deployed))
            run.show(one.run)
            if one.validation is not None:
                validate.show(one.validation)
            if one.benchmark is not None:
                benchmark.show_in_short(one.benchmark)
            if one.report is not None:
                print_lines([("report", str(one.report))])
    sys.stdout.flush()
    if any(one.benchmark is not None and one.benchmark.interrupted for one in result.results.values()):
        raise KeyboardInterrupt
    if not result.passed:
        sys.exit(validate.FAILED)


def _refuse(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Options that a deployment file leaves nothing to say for."""
    from mace_cl.errors import InputError

    given = [f"--{name}" for name in names if getattr(options, name)]
    if given:
        raise InputError(f"{', '.join(given)}: can't go with --config; the file says it, or leave it out")
