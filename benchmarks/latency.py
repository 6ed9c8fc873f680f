"""Latency beside peers, model by model, runtime by runtime.

    python benchmarks/latency.py MODELS_DIR [--models a,b] [--devices pocl-3.1,intel] [--peers ort] [--budget 120]
        [--json FILE] [--markdown FILE]

Each engine runs in a process of its own.  The processes take turns in short blocks, so that both meet the
same machine: a ratio comes from blocks that lie next to each other (`mace_cl.benchmark.pairs`).  Reported
are each engine's least and median latency in ms, the median of the blocks' ratios ours ÷ peer with its
quartiles, and the greatest difference of the outputs relative to the reference's largest magnitude.
With ``--budget`` each model is tuned for so many seconds before, from nothing, and its untuned program is one
more peer, ``untuned``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from mace_cl.benchmark.engines import PEERS, missing
from mace_cl.benchmark.pairs import Engine, Pair, in_turns
from mace_cl.errors import MaceClError
from mace_cl.tools.benchmark import Machine

UNTUNED = "untuned"
"""What our own program is called beside the tuned one."""


def compare(model: Path, device: str, peers: list[str], threads: int, rounds: int, budget: float) -> list[Pair]:
    """All pairs of one model on one device."""
    request = {
        "model": str(model), "program": None, "device": device, "store": None, "jobs": None, "threads": threads,
        "outputs": True, "shapes": {},
    }  # fmt: skip
    with ExitStack() as stack:
        running = []
        if budget:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ["MACE_CL_STORE_DIR"] = folder  # no records, and the children's too
            untuned = stack.enter_context(_ours({**request, "program": f"{folder}/untuned.bin"}))
            untuned.name = UNTUNED
            running.append(untuned)
            tune = ["tune", str(model), "--budget", f"{budget:g}s", "--device", device]
            subprocess.run([sys.executable, "-m", "mace_cl", *tune], check=True, stdout=subprocess.DEVNULL)
        ours = stack.enter_context(_ours(request))
        for peer in peers:
            if why := missing(peer, model):
                print(f"{model.stem:24s} {device:10s} {why}")
                continue
            engine = stack.enter_context(Engine(peer))
            try:
                engine.load({**request, "ports": ours.loaded["ports"]})
                running.append(engine)
            except MaceClError as error:
                print(f"{model.stem:24s} {device:10s} {peer}: {error}")
        pairs: list[Pair] = []
        for found in in_turns(ours, running, rounds):
            pairs = list(found.values())
        return pairs


def _ours(request: dict[str, Any]) -> Engine:
    """Our engine as it starts from a program, which another process has compiled if there was none."""
    with Engine("mace-cl") as first:
        first.load(request)
    engine = Engine("mace-cl")
    engine.load(request)
    return engine


def table(results: Sequence[Mapping[str, Any]], device: str) -> str:
    """Markdown: least latencies in ms, ratios ours ÷ peer, and ours ÷ the peer that is fastest on that model."""
    found = [one for one in results if one["device"] == device]
    peers = list(dict.fromkeys(one["peer"] for one in found))
    head = ["model", "mace-cl", *peers, *(f"÷ {peer}" for peer in peers), "÷ fastest"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    ratios: dict[str, list[float]] = {}
    for model in dict.fromkeys(one["model"] for one in found):
        of = {one["peer"]: one for one in found if one["model"] == model}
        for peer, one in of.items():
            ratios.setdefault(peer, []).append(one["ratio"])
        fastest = max(one["ratio"] for peer, one in of.items() if peer != UNTUNED)
        ratios.setdefault("", []).append(fastest)
        ours = min(one["ours"]["minimum"] for one in of.values())
        rows.append([
            model, f"{ours * 1e3:.3g}",
            *(f"{of[peer]['theirs']['minimum'] * 1e3:.3g}" if peer in of else "-" for peer in peers),
            *(f"{of[peer]['ratio']:.2f}" if peer in of else "-" for peer in peers), f"{fastest:.2f}",
        ])  # fmt: skip
    means = [f"{geometric_mean(ratios[peer]):.2f}" for peer in (*peers, "")]
    rows.append(["geometric mean", *[""] * (len(peers) + 1), *means])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", help="names without .onnx, separated by commas; default all")
    parser.add_argument("--devices", default="pocl-3.1,intel")
    parser.add_argument("--peers", default="ort", help=f"of {', '.join(PEERS)}; default: ort")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--budget", type=float, default=0.0, help="seconds of tuning; default: none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="tables, one for each device")
    arguments = parser.parse_args()
    wanted = arguments.models.split(",") if arguments.models else None
    models = [path for path in sorted(arguments.folder.glob("*.onnx")) if wanted is None or path.stem in wanted]
    results: list[dict[str, Any]] = []
    head = f"{'ours min':>9s} {'median':>8s} {'its min':>9s} {'median':>8s}  ratio (quartiles)  error"
    print(f"{'model':24s} {'device':10s} {'peer':10s} {head}")
    for model in models:
        for device in arguments.devices.split(","):
            peers = arguments.peers.split(",")
            for pair in compare(model, device, peers, arguments.threads, arguments.rounds, arguments.budget):
                results.append({"model": model.stem, "device": device, **asdict(pair)})
                print(
                    f"{model.stem:24s} {device:10s} {pair.peer:10s} {pair.ours.minimum * 1e3:9.2f} "
                    f"{pair.ours.p50 * 1e3:8.2f} {pair.theirs.minimum * 1e3:9.2f} {pair.theirs.p50 * 1e3:8.2f}  "
                    f"{pair.ratio:5.2f} ({pair.low:.2f}-{pair.high:.2f})  {pair.difference or 0:.1e}",
                    flush=True,
                )
            if arguments.json:
                asked = {"threads": arguments.threads, "budget": arguments.budget}
                document = {"machine": asdict(Machine.here()), **asked, "results": results}
                arguments.json.write_text(json.dumps(document, indent=1) + "\n")
            if arguments.markdown:
                devices = dict.fromkeys(one["device"] for one in results)
                arguments.markdown.write_text("\n".join(f"{one}\n\n{table(results, one)}" for one in devices))


if __name__ == "__main__":
    main()
