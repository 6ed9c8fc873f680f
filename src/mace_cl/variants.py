"""A model of open shapes on a device: an executor for each bucket that was met, the least recently used out first."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from mace_cl.errors import InputError
from mace_cl.program.bucket import Bucket, bucket_of, usual
from mace_cl.program.format import Opened
from mace_cl.program.policy import Decision
from mace_cl.request import Found, Request
from mace_cl.runtime.executor import Executor
from mace_cl.schedule import Port
from mace_cl.start import start

__all__ = ["Variants", "first_bucket"]


def first_bucket(request: Request, found: Found) -> Bucket | None:
    """What is loaded before anything is known of the arrays to come; None where that can't be guessed.

    It is what `usual` says; of a program whose model is not at hand, the only one inside.
    """
    guess = usual(request.inputs)
    if request.model is None and isinstance(found, Opened):
        inside = found.program.buckets()
        if guess not in inside:
            return inside[0] if len(inside) == 1 else None
    return guess


class Variants:
    """Executors by bucket; at most ``settings.buckets`` of them hold memory on the device.

    It may be used from several threads; runs take turns.
    """

    def __init__(self, request: Request, given: Opened | None) -> None:
        self._request, self._given = request, given
        self._live: dict[Bucket, tuple[Executor, Decision]] = {}
        self._lock = threading.RLock()
        self._closed = False

    def begin(self, found: Found) -> None:
        """Load what can be before the first run, `first_bucket`, from what `mace_cl.start.seek` found."""
        first = first_bucket(self._request, found)
        if first is not None:
            self._load(first, found)

    def twin(self) -> Variants:
        """Another one with the same buckets in memory; see `Executor.twin`."""
        with self._lock:
            if self._closed:
                raise InputError("this runtime is closed; make a new one, or take its twin before it is closed")
            other = Variants(self._request, self._given)
            other._live = {bucket: (executor.twin(), decision) for bucket, (executor, decision) in self._live.items()}
            return other

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, NDArray[Any]] | None) -> dict[str, NDArray[Any]]:
        """As `Executor.run`, and raises what `mace_cl.start.start` does for a bucket that is new."""
        with self._lock:
            executor, rest = self._chosen(inputs)
            return executor.run(rest, outputs)

    def profile(self, inputs: Mapping[str, Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """As `Executor.profile`."""
        with self._lock:
            executor, rest = self._chosen(inputs)
            return executor.profile(rest)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Those in memory, the one used last at the end."""
        return tuple(self._live)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The model's inputs, with the sizes of the bucket used last; before there is one, open shapes are None."""
        live = self.buckets
        shapes = dict(live[-1].shapes) if live else {}
        return tuple(
            Port(one.name, one.dtype, shapes.get(one.name) if one.open and not one.parameter else one.shape, None)  # type: ignore[arg-type]  # all sizes are known there
            for one in self._request.inputs
        )

    def last(self) -> tuple[Executor, Decision]:
        """What was used last.

        Raises:
            InputError: nothing was yet, as the shapes are not known.
        """
        with self._lock:
            if not self._live:
                raise self._unknown()
            return next(reversed(self._live.values()))

    def _unknown(self) -> InputError:
        wanted = [one for one in self._request.inputs if one.open]
        name = wanted[0].name
        return InputError(
            f"not known before the first run, as these inputs of the model are open: {', '.join(map(str, wanted))}; "
            f"run it first, or give shapes (shapes={{{name!r}: (…)}}, or --shape {name}=1,3,224,224)"
        )

    def close(self) -> None:
        """Give the device's memory back."""
        with self._lock:
            self._closed = True
            for executor, _ in self._live.values():
                executor.close()
            self._live.clear()

    def _chosen(self, inputs: Mapping[str, Any]) -> tuple[Executor, dict[str, Any]]:
        """The executor for these inputs, and those of them that it takes."""
        if self._closed:
            raise InputError("this runtime is closed; make a new one, or run it before it is closed")
        bucket = bucket_of(self._request.inputs, inputs)
        found = self._live.pop(bucket, None)
        if found is None:
            self._load(bucket)
        else:
            self._live[bucket] = found
        parameters = {value.name for value in bucket.values}
        rest = {name: value for name, value in inputs.items() if name not in parameters}
        return self._live[bucket][0], rest

    def _load(self, bucket: Bucket, found: Found = None) -> None:
        while len(self._live) >= self._request.settings.buckets:
            executor, _ = self._live.pop(next(iter(self._live)))
            executor.close()
        live = tuple((one, executor) for one, (executor, _) in self._live.items())
        self._live[bucket] = start(replace(self._request, bucket=bucket, live=live), self._given, found)
