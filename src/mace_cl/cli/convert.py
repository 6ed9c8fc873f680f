"""``mace-cl convert``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import Verbs, add_json, add_model_options, add_verb, shapes

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "convert",
        _run,
        "Write a model of any known format as the portable form, ONNX with a manifest that tells where it came from,\n"
        "or as MACE's own .pb and .data, so that it runs on phones with MACE itself.",
        "  mace-cl convert RFB-320.prototxt -o portable\n"
        "  mace-cl convert model.onnx --to mace -o mace --fp16\n"
        "  mace-cl convert model.pb -o small --outputs MobilenetV1/Predictions\n"
        "  mace-cl convert --config mobilenet.yml -o build",
    )
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="a model of any known format")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a deployment file of MACE instead of a model")
    parser.add_argument(
        "--model_name", "--model-name", action="append", default=[], metavar="NAME",
        help="with --config: only this model of it; repeatable",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="made where it is missing")
    parser.add_argument("--to", choices=("onnx", "mace"), default="onnx", help="default: %(default)s")
    parser.add_argument("--name", default="", metavar="NAME", help="of the files, default: the model's")
    parser.add_argument("--fp16", action="store_true", help="with --to mace: store weights in two bytes each")
    parser.add_argument(
        "--safetensors", action="store_const", const=True,
        help="put large weights into a safetensors file beside the model; by default from 100 MB on",
    )  # fmt: skip
    add_model_options(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import bytes_, print_json, print_lines, seconds_
    from mace_cl.errors import InputError
    from mace_cl.tools import convert

    if (options.model is None) == (options.config is None):
        raise InputError("give a model, or a deployment file with --config")
    if options.config is not None:
        deployed = convert.deploy(
            convert.DeployArgs(
                options.config, options.output, options.to, tuple(options.model_name), bool(options.trust)
            )
        )
        if options.json:
            print_json(deployed)
            return
        rows = [("note", note) for note in deployed.notes]
        for name, one in deployed.results.items():
            rows.append((name, f"{one.source} ({one.source_format})"))
            rows += [("written", f"{one.output / file} ({bytes_(size)})") for file, size in one.files.items()]
        print_lines(rows)
        return
    args = convert.ConvertArgs(
        model=options.model,
        output=options.output,
        to=options.to,
        name=options.name,
        half=options.fp16,
        safetensors=options.safetensors,
        shapes=shapes(options.shape),
        outputs=options.outputs,
        trust=bool(options.trust),
    )
    result = convert.run(args)
    if options.json:
        print_json(result)
        return
    rows = [("read", f"{result.source} ({result.source_format})")]
    rows += [("written", f"{result.output / name} ({bytes_(size)})") for name, size in result.files.items()]
    most = [f"{name} {count}" for name, count in list(result.operators.items())[:8]]
    rows.append(("operators", f"{sum(result.operators.values())}: {', '.join(most)}"))
    print_lines([*rows, ("in", seconds_(result.seconds))])
