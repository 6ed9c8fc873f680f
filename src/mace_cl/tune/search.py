"""What to measure next, and what to believe: the hottest kernels first, within a budget of seconds.

First the algorithm of each convolution is chosen, then the parameters of the kernels that this leads to.
Each kernel has an incumbent, at first what records or its rule give.  A candidate takes its place if its
answer is the same and it is faster in paired runs, by more than the noise that the incumbent shows against
itself and by at least a hundredth; the runs that decide are not those that made it look promising.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import median
from typing import Protocol

from mace_cl.bind import Choose, bind
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.lower.winograd import Algorithm, direct, with_algorithms
from mace_cl.plan import Buffer as PlanBuffer
from mace_cl.plan import KernelCall, Plan, PlanPort, Problem, Region, Traits, Tunable
from mace_cl.tune.measure import RESULT, Candidate, Loaded
from mace_cl.tune.records import Place, Record, Records, described, key_of
from mace_cl.tune.space import Convolution, Space, digest, is_tunable, name

__all__ = ["Choices", "Progress", "Stand", "State", "Summary", "Verdict", "judge", "tune"]

logger = logging.getLogger("mace_cl")

_SCREEN_PAIRS = 3
_PAIRS = 15
_PROMISING = 1.05
_LEAST_GAIN = 0.01
_DEVIATIONS = 3.0
_BATCH = 4
_HOPE = 0.08
"""The gain expected of a kernel that was not yet tuned, as a share of its time."""

_FADE = 0.93
"""What a miss leaves of that hope."""

_WORTH = 2.0
"""Candidates whose estimated cost is more than this times the rule's choice are not tried."""

_CLOSE = 2e-5
_CLOSE_WINOGRAD = 2e-4

Pairs = tuple[tuple[str, int], ...]


class Stand(Protocol):
    """Where candidates are built and timed: `mace_cl.tune.measure.Bench`, or a test's own."""

    workers: int

    def load(self, lists: Sequence[Sequence[Candidate]], references: Sequence[str]) -> list[list[Loaded]]: ...

    def holds(self, worker: int, name: str) -> bool: ...

    def time(self, worker: int, names: tuple[str, str], pairs: int) -> list[tuple[float, float]]: ...

    def drop(self, worker: int, name: str) -> None: ...


@dataclass(frozen=True)
class Choices:
    """Algorithms and parameters by the ladder of records; ``exact`` keeps to direct convolutions."""

    records: Records
    traits: Traits
    place: Place
    exact: bool = False

    def parameters(self, problem: Problem, traits: Traits) -> dict[str, int]:
        """As `mace_cl.bind.Choose`."""
        known = self._known(problem) if is_tunable(problem) else None
        return known[0] if known else problem.default(traits)

    def algorithm(self, problem: Conv2D) -> int:
        """As `mace_cl.lower.winograd.Algorithm`."""
        if self.exact:
            return 0
        choice = Convolution(problem)
        known = self._known(choice)
        return (known[0] if known else choice.default(self.traits))["winograd"]

    def rung(self, problem: Problem | Convolution) -> str:
        """Where the choice for a problem comes from, one of `mace_cl.tune.records.RUNGS`."""
        known = self._known(problem) if isinstance(problem, Convolution) or is_tunable(problem) else None
        return known[1] if known else "default"

    def _known(self, problem: Space) -> tuple[dict[str, int], str] | None:
        return self.records.find(problem, self.traits, self.place)


@dataclass(frozen=True)
class State:
    """How far it is: seconds, candidates measured and left, the problem at hand, and the times of one run.

    ``before`` and ``now`` are the seconds that a run of the network spends in the kernels looked at, ``hope``
    what may still be gained of ``now`` in ``left`` seconds.
    """

    elapsed: float
    left: float
    measured: int
    what: str
    before: float
    now: float
    hope: float


Progress = Callable[[State], None]


@dataclass(frozen=True)
class Summary:
    """What came of it; ``before`` and ``after`` as in `State`, ``finished`` if nothing was left to try.

    ``won`` counts problems with a new incumbent, ``known`` candidates that an earlier tuning had measured.
    """

    seconds: float
    problems: int
    measured: int
    known: int
    won: int
    before: float
    after: float
    finished: bool
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Verdict:
    """What pairs of times say: the median quotient candidate/incumbent, its uncertainty, and whether it is a win."""

    ratio: float
    noise: float
    win: bool


def judge(pairs: Sequence[tuple[float, float]], floor: float = 0.0) -> Verdict:
    """Compare (incumbent, candidate) times.

    The uncertainty is the standard error of the median by the median absolute deviation (1.4826·MAD for the
    deviation of normal noise, times 1.2533/√n for the median's), at least ``floor``.  A win is below 1 by three
    times that, and by a hundredth.
    """
    ratios = [candidate / incumbent for incumbent, candidate in pairs]
    middle = median(ratios)
    spread = median(abs(ratio - middle) for ratio in ratios)
    noise = max(1.2533 * 1.4826 * spread / len(ratios) ** 0.5, floor)
    return Verdict(middle, noise, middle < 1 - max(_DEVIATIONS * noise, _LEAST_GAIN))


class _Task:
    """A problem being tuned: its place in the network, its incumbent, and what is left to try."""

    def __init__(self, call: KernelCall, problem: Space, launches: int, worker: int, index: int) -> None:
        self.call, self.problem, self.launches, self.worker, self.index = call, problem, launches, worker, index
        self.default: Pairs = ()
        self.incumbent: Pairs = ()
        self.recorded = False
        self.seconds = self.first = self.floor = 0.0
        self.left: list[Pairs] = []
        self.hope = _HOPE
        self.dead = False

    def name(self, parameters: Pairs) -> str:
        return f"{self.index}:{described(dict(parameters))}"

    @property
    def tolerance(self) -> float:
        """The difference from the reference, as a share of its largest magnitude, that rounding explains."""
        return _CLOSE_WINOGRAD if isinstance(self.problem, Convolution) else _CLOSE

    @property
    def score(self) -> float:
        """Seconds of a run that may be saved here."""
        return self.seconds * self.launches * self.hope if self.left and not self.dead else 0.0


class _Tuning:
    """One call of `tune`."""

    def __init__(
        self, plan: Plan, choices: Choices, stand: Stand, budget: float, progress: Progress | None,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._plan, self._choices, self._stand = plan, choices, stand
        self._budget, self._progress, self._clock = budget, progress, clock
        self._begin = clock()
        self._tasks: list[_Task] = []
        self._verdicts: Counter[str] = Counter()
        self._won: set[tuple[str, str]] = set()
        self._known = 0
        self._before = self._saved = 0.0
        self._finished = True
        self._batch_seconds = 1.0

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._begin

    @property
    def _left(self) -> float:
        return self._budget - self._elapsed

    def run(self) -> Summary:
        if not self._choices.exact:
            self._phase(
                (call, Convolution(call.problem)) for call in _kernels(self._plan) if isinstance(call.problem, Conv2D)
            )
        plan = with_algorithms(self._plan, self._choices.algorithm, self._choices.traits.is_cpu)
        self._before = self._saved
        self._phase((call, call.problem) for call in _kernels(plan) if is_tunable(call.problem))
        return Summary(
            self._elapsed, len(self._tasks), sum(self._verdicts.values()), self._known, len(self._won),
            self._before, self._before - self._saved, self._finished, dict(self._verdicts),
        )  # fmt: skip

    def _phase(self, calls: Iterable[tuple[KernelCall, Space]]) -> None:
        """Tune all problems of one kind until they are done or time is up."""
        tasks = [task for task in self._collect(list(calls)) if task.left]
        self._tasks = tasks
        self._open(tasks)
        while any(task.score for task in tasks):
            if self._left <= 0:
                self._finished = False
                return
            self._round(tasks)

    def _collect(self, calls: Sequence[tuple[KernelCall, Space]]) -> list[_Task]:
        """One task for each problem as records know it, the most work first."""
        groups: dict[tuple[str, str], list[tuple[KernelCall, Space]]] = {}
        for call, problem in calls:
            groups.setdefault(key_of(problem), []).append((call, problem))
        ordered = sorted(groups.values(), key=lambda group: -len(group) * group[0][0].problem.flops)
        tasks = []
        for index, group in enumerate(ordered):
            call, problem = group[0]
            task = _Task(call, problem, len(group), index % self._stand.workers, index)
            self._prepare(task)
            tasks.append(task)
        return tasks

    def _prepare(self, task: _Task) -> None:
        """The incumbent, and what is left to try: not what was tried before, nor what is estimated to be slow."""
        choices, problem = self._choices, task.problem
        traits = choices.traits
        tried = choices.records.tried(problem, choices.place)
        self._known += len(tried)
        task.default = _pairs(problem.default(traits))
        found = choices.records.find(problem, traits, choices.place)
        task.incumbent = _pairs(found[0]) if found else task.default
        task.recorded = found is not None and found[1] == "device"
        options = [_pairs(one) for one in problem.space(traits)]
        if isinstance(problem, Tunable):
            costs = {one: problem.cost(dict(one), traits) for one in options}
            most = _WORTH * costs[task.default] if task.default in costs else float("inf")
            options = sorted((one for one in options if costs[one] <= most), key=lambda one: costs[one])
        else:
            task.hope = 0.3
        task.left = [one for one in options if one not in tried and one != task.incumbent]
        if len(options) < 2:
            task.left = []

    def _open(self, tasks: Sequence[_Task]) -> None:
        """Build and time each problem's reference and incumbent, as many at once as there are workers."""
        waiting = [task for task in tasks if task.left]
        queues = [[task for task in waiting if task.worker == worker] for worker in range(self._stand.workers)]
        while any(queues):
            if self._left <= 0:
                self._finished = False
                for queue in queues:
                    for task in queue:
                        task.dead = True
                return
            heads = [queue.pop(0) if queue else None for queue in queues]
            self._load_references(heads)
            for head in heads:
                if head is not None and not head.dead:
                    self._look(head)

    def _load_references(self, tasks: Sequence[_Task | None]) -> None:
        """Have the rule's choice, which answers are compared with, and the incumbent loaded, a task per worker."""
        for which in ("default", "incumbent"):
            lists: list[list[Candidate]] = []
            for task in tasks:
                wanted = task is not None and not self._stand.holds(task.worker, task.name(getattr(task, which)))
                lists.append([self._candidate(task, getattr(task, which))] if task and wanted else [])
            names = [task.name(task.default) if task and which == "incumbent" else "" for task in tasks]
            for head, loaded in zip(tasks, self._stand.load(lists, names), strict=True):
                if head is None or all(not one.verdict and one.difference <= head.tolerance for one in loaded):
                    continue
                if which == "default":
                    head.dead = True
                    logger.info("%s is not tuned: the rule's choice failed (%s)", name(head.problem), loaded[0].why)
                else:
                    head.incumbent, head.recorded = head.default, False

    def _look(self, task: _Task) -> None:
        """Time the incumbent against itself: its weight in a run, and the noise."""
        incumbent = task.name(task.incumbent)
        pairs = self._stand.time(task.worker, (incumbent, incumbent), _PAIRS)
        if not pairs:
            task.dead = True
            return
        verdict = judge(pairs)
        task.floor = verdict.noise
        task.seconds = median(first for first, _ in pairs)
        if not task.first:
            task.first = task.seconds
            self._before += task.seconds * task.launches
        if not task.recorded:
            task.recorded = True
            self._record(task, task.incumbent, "best", pairs, verdict)
        self._report(task)

    def _round(self, tasks: Sequence[_Task]) -> None:
        """For each worker, the next candidates of the problem with most to gain: built at once, timed in turn."""
        chosen: list[_Task | None] = []
        for worker in range(self._stand.workers):
            mine = [task for task in tasks if task.worker == worker and task.score]
            chosen.append(max(mine, key=lambda task: task.score, default=None))
        best = max(task.score for task in chosen if task)
        # a worker whose problems are all but done does not keep the others waiting
        chosen = [task if task and task.score > 0.02 * best else None for task in chosen]
        self._load_references(chosen)
        size = max(1, min(_BATCH, int(_BATCH * self._left / (2 * self._batch_seconds))))
        batches = [self._next(task, size) if task and not task.dead else [] for task in chosen]
        lists = [
            [self._candidate(task, one) for one in batch] if task else []
            for task, batch in zip(chosen, batches, strict=True)
        ]
        before = self._clock()
        results = self._stand.load(lists, [task.name(task.default) if task else "" for task in chosen])
        for task, batch, loaded in zip(chosen, batches, results, strict=True):
            if task:
                for parameters, one in zip(batch, loaded, strict=True):
                    self._try(task, parameters, one)
                self._report(task)
        self._batch_seconds = max(0.1, self._clock() - before)

    def _next(self, task: _Task, count: int) -> list[Pairs]:
        """Neighbours of the incumbent and the cheapest by estimate, in turns."""
        taken: list[Pairs] = []
        while task.left and len(taken) < count:
            near = [one for one in task.left if _distance(one, task.incumbent) <= 1]
            one = near[0] if near and len(taken) % 2 == 0 else task.left[0]
            task.left.remove(one)
            taken.append(one)
        return taken

    def _try(self, task: _Task, parameters: Pairs, loaded: Loaded) -> None:
        """Judge a candidate that was built."""
        if loaded.verdict == "lost":  # another candidate took its worker with it
            task.left.insert(0, parameters)
            return
        task.hope *= _FADE
        candidate = task.name(parameters)
        if loaded.verdict:
            self._record(task, parameters, loaded.verdict)
            return
        if loaded.difference > task.tolerance:
            self._record(task, parameters, "wrong")
            self._stand.drop(task.worker, candidate)
            return
        incumbent = task.name(task.incumbent)
        if not (self._stand.holds(task.worker, incumbent) and self._stand.holds(task.worker, candidate)):
            task.left.insert(0, parameters)
            return
        pairs = self._stand.time(task.worker, (incumbent, candidate), _SCREEN_PAIRS)
        if not pairs:
            self._record(task, parameters, "died")
            return
        verdict = judge(pairs, task.floor)
        if verdict.ratio < _PROMISING:
            pairs = self._stand.time(task.worker, (incumbent, candidate), _PAIRS) or pairs
            verdict = judge(pairs, task.floor)
        if len(pairs) > _SCREEN_PAIRS and verdict.win:
            loser, task.incumbent = task.incumbent, parameters
            now = median(second for _, second in pairs)
            self._saved += (task.seconds - task.seconds * verdict.ratio) * task.launches
            task.seconds *= verdict.ratio
            task.hope = max(task.hope, min(_HOPE, 2 * (1 - verdict.ratio)))
            self._won.add(key_of(task.problem))
            self._record(task, parameters, "best", pairs, verdict)
            logger.debug("%s: %s, %.1f µs", name(task.problem), described(dict(parameters)), now * 1e6)
            if loser != task.default:
                self._stand.drop(task.worker, task.name(loser))
            return
        self._record(task, parameters, "noise" if verdict.ratio < 1 else "slower", pairs, verdict)
        self._stand.drop(task.worker, candidate)

    def _candidate(self, task: _Task, parameters: Pairs) -> Candidate:
        """The task's call alone, with these parameters."""
        choices, chosen = self._choices, dict(parameters)
        plan = _alone(self._plan, task.call)
        if isinstance(task.problem, Convolution):
            choose: Choose = choices.parameters
            algorithm: Algorithm = lambda problem: chosen["winograd"]  # noqa: E731
        else:
            choose, algorithm = (lambda problem, traits: chosen), direct
        schedule, constants = bind(with_algorithms(plan, algorithm, choices.traits.is_cpu), choices.traits, choose)
        return Candidate(task.name(parameters), schedule, constants)

    def _record(
        self, task: _Task, parameters: Pairs, verdict: str, pairs: Sequence[tuple[float, float]] = (),
        judged: Verdict | None = None,
    ) -> None:  # fmt: skip
        self._verdicts[verdict] += 1
        family, problem = key_of(task.problem)
        record = Record(
            self._choices.place, self._choices.traits, family, problem, tuple(sorted(parameters)), verdict,
            digest(family), date=date.today().isoformat(),
        )  # fmt: skip
        if judged is not None:
            first, second = (median(one) for one in zip(*pairs, strict=True))
            record = replace(
                record, seconds=second, against=first, ratio=judged.ratio, noise=judged.noise, pairs=len(pairs)
            )
        self._choices.records.add(record)

    def _report(self, task: _Task) -> None:
        if self._progress is not None:
            hope = sum(one.score for one in self._tasks)
            self._progress(
                State(
                    self._elapsed, max(0.0, self._left), sum(self._verdicts.values()), name(task.problem),
                    self._before, self._before - self._saved, hope,
                )
            )  # fmt: skip


def tune(
    plan: Plan, choices: Choices, stand: Stand, budget: float, progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:  # fmt: skip
    """Spend at most about ``budget`` seconds on the convolutions and kernels of a lowered plan.

    Each result is in ``choices.records`` before the next is begun, so that an interrupt loses nothing, and
    what is there is not measured again.

    Raises:
        StorageError: the records can't be written.
        DeviceError: the device can't be used.
    """
    return _Tuning(plan, choices, stand, budget, progress, clock).run()


def _kernels(plan: Plan) -> Iterator[KernelCall]:
    return (call for call in plan.calls if isinstance(call, KernelCall))


def _pairs(parameters: dict[str, int]) -> Pairs:
    return tuple(sorted(parameters.items()))


def _distance(one: Pairs, other: Pairs) -> float:
    """In how many parameters two candidates differ, a step of one counting less than a leap."""
    ours = dict(other)
    return sum((value != ours.get(key)) + (abs(value - ours.get(key, 0)) > 2) for key, value in one)


def _alone(plan: Plan, call: KernelCall) -> Plan:
    """A plan of one call: what it reads and writes are inputs and outputs, so that no bytes are shared."""
    buffers: list[PlanBuffer] = []
    ports: dict[Region, PlanPort] = {}
    wholes: dict[Region, Region] = {}

    def place(region: Region, port: str) -> Region:
        if region not in ports:
            buffers.append(PlanBuffer(port, region.size))
            whole = Region(len(buffers) - 1, 0, region.size)
            ports[region], wholes[region] = PlanPort(port, "float32", (region.size // 4,), whole), whole
        return wholes[region]

    operands = tuple(
        place(operand, f"x{index}") if isinstance(operand, Region) else operand
        for index, operand in enumerate(call.operands)
    )
    alone = replace(call, operands=operands, result=place(call.result, RESULT))
    return Plan(plan.layout, tuple(buffers), tuple(ports.values()), tuple(ports.values()), (alone,))
