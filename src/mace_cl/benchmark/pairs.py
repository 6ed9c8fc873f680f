"""Engines in processes of their own, taking turns in short blocks, so that both meet the same machine."""

from __future__ import annotations

import base64
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl import errors
from mace_cl.child import Child, ChildError
from mace_cl.errors import InputError, MaceClError

__all__ = ["Engine", "Latencies", "Pair", "Throughput", "difference", "in_turns", "percentile", "throughput"]

_BLOCK_SECONDS = 0.15
_MOST_RUNS = 40
_REST_SECONDS = 0.05
_STREAM_SECONDS = 0.5

Progress = Callable[[str, int, int], None]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie, linear between two; NaN of none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


@dataclass(frozen=True)
class Latencies:
    """Seconds of ``runs`` runs."""

    runs: int
    minimum: float
    average: float
    p50: float
    p90: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies:
        p50, p90, p99 = (percentile(seconds, share) for share in (0.5, 0.9, 0.99))
        return cls(len(seconds), min(seconds), statistics.fmean(seconds), p50, p90, p99, max(seconds))


@dataclass(frozen=True)
class Pair:
    """This engine beside a peer, over ``blocks`` pairs of blocks that lie next to each other.

    ``ratio`` is the median of the blocks' ratios ours ÷ peer, below 1 where ours is faster; ``low`` and
    ``high`` are the quartiles.  ``difference`` is the greatest one of the outputs, relative to the
    greatest element; None where they can't be compared.  Peaks are bytes of memory of the processes.
    """

    peer: str
    version: str
    ratio: float
    low: float
    high: float
    blocks: int
    ours: Latencies
    theirs: Latencies
    difference: float | None
    peer_init: float
    peer_first_run: float
    peer_peak: int | None


class Engine:
    """A child process with one engine and one model, to be used as a context."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded: dict[str, Any] = {}
        self._child = Child("mace_cl.benchmark.engines", "Session", several=True)

    def ask(self, request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """The answer.

        Raises:
            MaceClError: the engine refused, or its process died; of ours, the error that it raised.
        """

        def report(said: dict[str, Any]) -> None:
            if progress is not None and "progress" in said:
                progress(*said["progress"])

        try:
            answer = self._child.ask(request, report=report)
        except ChildError as error:
            raise MaceClError(f"the process of {self.name} ended while it was to {request['do']}: {error}") from error
        if "error" in answer:
            raise getattr(errors, answer["error"], MaceClError)(answer["message"])
        return answer

    def load(self, request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Load the model and run it once; ``request`` as `mace_cl.benchmark.engines.Session.load` takes it."""
        self.loaded = self.ask({"do": "load", "engine": self.name, **request}, progress)
        return self.loaded

    def outputs(self) -> list[NDArray[Any]]:
        """The outputs of the first run, if they were asked for."""
        return [
            np.frombuffer(base64.b64decode(data), dtype).reshape(shape) for dtype, shape, data in self.loaded["outputs"]
        ]

    def block(self, runs: int) -> list[float]:
        """Seconds of ``runs`` runs."""
        seconds: list[float] = self.ask({"do": "block", "runs": runs})["seconds"]
        return seconds

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()


def in_turns(ours: Engine, peers: Sequence[Engine], rounds: int) -> Iterator[Mapping[str, Pair]]:
    """After each round, what is known of each peer: blocks of ours and of each peer take turns.

    A block takes about 0.15 s; both engines of a pair run as often in it.
    """
    counts = {
        peer.name: max(3, min(_MOST_RUNS, int(_BLOCK_SECONDS / statistics.median(peer.block(3))))) for peer in peers
    }
    mine: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    theirs: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    differences = {peer.name: difference(ours.outputs(), peer.outputs()) for peer in peers}
    for number in range(rounds):
        for peer in peers:
            sides = [(peer, theirs), (ours, mine)]
            for engine, kept in sides if number % 2 else sides[::-1]:
                kept[peer.name].append(engine.block(counts[peer.name]))
                time.sleep(_REST_SECONDS)
        yield {
            peer.name: _pair(peer, mine[peer.name], theirs[peer.name], differences[peer.name]) for peer in peers
        }  # fmt: skip


@dataclass(frozen=True)
class Throughput:
    """Runs per second with ``streams`` at a time: the median of rounds in which engines and numbers take turns."""

    engine: str
    streams: int
    rate: float


def throughput(engines: Sequence[Engine], streams: Sequence[int], rounds: int = 5) -> tuple[Throughput, ...]:
    """Of each engine, with each number of streams that it can run."""
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in streams:
            for engine in engines:
                with suppress(InputError):
                    said = engine.ask({"do": "throughput", "streams": count, "seconds": _STREAM_SECONDS})
                    rates.setdefault((engine.name, count), []).append(said["rate"])
                time.sleep(_REST_SECONDS)
    return tuple(Throughput(name, count, statistics.median(found)) for (name, count), found in rates.items())


def _pair(peer: Engine, mine: list[list[float]], theirs: list[list[float]], found: float | None) -> Pair:
    ratios = [statistics.median(one) / statistics.median(other) for one, other in zip(mine, theirs, strict=True)]
    ratio, low, high = (percentile(ratios, share) for share in (0.5, 0.25, 0.75))
    return Pair(
        peer.name, peer.loaded["version"], ratio, low, high, len(ratios),
        Latencies.of([value for block in mine for value in block]),
        Latencies.of([value for block in theirs for value in block]),
        found, peer.loaded["init"], peer.loaded["first_run"], peer.loaded["memory"].get("peak"),
    )  # fmt: skip


def difference(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> float | None:
    """The greatest difference over the greatest element of the worst output; None if shapes do not fit.

    A peer may have other orders of outputs and channels last.
    """
    if len(ours) != len(theirs):
        return None
    worst, left = 0.0, list(theirs)
    for mine in ours:
        fitting = []
        for index, other in enumerate(left):
            ways = [other] if other.shape == mine.shape else []
            if other.ndim == 4 and not ways:
                ways = [way for way in (other.transpose(0, 3, 1, 2),) if way.shape == mine.shape]
            if not ways and other.size == mine.size:
                ways = [other.reshape(mine.shape)]
            fitting += [(_relative(mine, way), index) for way in ways]
        if not fitting:
            return None
        found, index = min(fitting)
        left.pop(index)
        worst = max(worst, found)
    return worst


def _relative(mine: NDArray[Any], other: NDArray[Any]) -> float:
    scale = float(np.abs(other).max(initial=0)) or 1.0
    found = float(np.abs(mine.astype(np.float64) - other).max(initial=0)) / scale
    return math.inf if math.isnan(found) else found
