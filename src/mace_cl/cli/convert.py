"""``mace-cl convert``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.deploy import add_config, convert_config
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
    add_config(parser)
    parser.add_argument(
        "--device_conf", "--device_yml", "--device-conf", type=Path, metavar="FILE",
        help="with --config: MACE's file of devices; tells how to copy what is made there and run it",
    )  # fmt: skip
    parser.add_argument(
        "--device", action="append", metavar="SPEC",
        help="with --config: also compile for this OpenCL device, as `mace-cl compile --device`; repeatable",
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
        convert_config(options)
        return
    if options.model_name or options.device or options.device_conf:
        raise InputError("--model_name, --device and --device_conf go with --config")
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
