"""Tuning without a device: records and their ladder, what a stranger's file can do, and what is believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl.errors import InputError, StorageError
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.matmul import MatMul
from mace_cl.kernels.windows import Window
from mace_cl.plan import Buffer, Constant, KernelCall, Layout, Plan, PlanPort, Region
from mace_cl.tools import tune as tool
from mace_cl.tune.measure import Candidate, Loaded
from mace_cl.tune.records import Place, Record, Records, key_of, parse, read_strictly
from mace_cl.tune.search import Choices, State, Summary, judge, tune
from mace_cl.tune.space import FAMILIES, Convolution, Space, digest, legal, name, read_problem, shape
from problems import PROBLEMS, RELU, TRAITS

CONV = Conv2D(4, 1, (8, 8), Window((20, 20), (20, 20), (3, 3), pads=(1, 1)), epilogue=RELU)
HERE = Place("maker", "device", "1.0", "CL 3.0", "cpu, 16 floats wide")
ALIKE = replace(HERE, vendor="other", name="device 2")
RELATED = replace(HERE, name="device 3", architecture="cpu, 8 floats wide")
ALIEN = Place("nobody", "device", "1.0", "CL 3.0", "Foo 1000")


def record(parameters: dict[str, int], place: Place = HERE, problem: Space = CONV, **changes: Any) -> Record:
    family, text = key_of(problem)
    kept = tuple(sorted(parameters.items()))
    made = Record(place, TRAITS, family, text, kept, "best", digest(family), 1e-4, 2e-4, 0.5, 0.01, 15, "2026-11-21")
    return replace(made, **changes)


def spaced(problem: Space, number: int) -> dict[str, int]:
    return list(problem.space(TRAITS))[number]


class TestSpace:
    @pytest.mark.parametrize(
        "problem",
        [CONV, Convolution(CONV), DepthwiseConv2D(8, 1, 16, CONV.window), MatMul(8, (2,), ((4,), (0,)), (9, 8, 16))],
        ids=lambda one: str(one.family),
    )
    def test_problems_are_read_back(self, problem: Space) -> None:
        again = read_problem(problem.family, json.loads(json.dumps(shape(problem))))
        assert shape(again) == shape(problem)
        assert list(again.space(TRAITS)) == list(problem.space(TRAITS))

    def test_epilogue_and_bias_share_what_is_measured(self) -> None:
        assert key_of(CONV) == key_of(replace(CONV, epilogue=PROBLEMS["conv2d_3x3"].epilogue, bias=False))  # type: ignore[attr-defined]
        assert key_of(CONV) != key_of(replace(CONV, batch=2))
        assert key_of(CONV) != key_of(Convolution(CONV))

    def test_only_the_space_is_legal(self) -> None:
        assert legal(CONV, CONV.default(TRAITS), TRAITS) == CONV.default(TRAITS)
        for wrong in ({}, {**CONV.default(TRAITS), "tile": 7}, {**CONV.default(TRAITS), "extra": 1}):
            assert legal(CONV, wrong, TRAITS) is None

    def test_names(self) -> None:
        assert name(CONV) == "conv2d 3x3 8→8 @20x20"
        assert name(MatMul(8, (2,), ((4,), (0,)), (9, 8, 16))) == "matmul 2x9x8x16"

    def test_every_family_has_its_files(self) -> None:
        assert {len(digest(family)) for family in FAMILIES} == {16}


class TestLadder:
    def test_rungs(self) -> None:
        records = Records(None)
        assert records.find(CONV, TRAITS, HERE) is None
        rungs = (ALIEN, None), (RELATED, "vendor"), (ALIKE, "architecture"), (HERE, "device")
        for number, (place, rung) in enumerate(rungs):
            records.add(record(spaced(CONV, number), place))
            wanted = None if rung is None else (spaced(CONV, number), rung)
            assert records.find(CONV, TRAITS, HERE) == wanted
        assert records.find(CONV, TRAITS, replace(HERE, driver="1.1")) == (spaced(CONV, 3), "architecture")

    def test_the_last_best_counts(self) -> None:
        records = Records(None)
        records.add(record(spaced(CONV, 1)), record(spaced(CONV, 2)), record(spaced(CONV, 3), verdict="slower"))
        assert records.find(CONV, TRAITS, HERE) == (spaced(CONV, 2), "device")
        assert [dict(one.parameters) for one in records.best()] == [spaced(CONV, 2)]

    def test_other_kernels_and_spaces_do_not_count(self) -> None:
        records = Records(None)
        records.add(record(spaced(CONV, 1), kernels="0" * 16), record({**spaced(CONV, 1), "tile": 99}))
        assert records.find(CONV, TRAITS, HERE) is None

    def test_what_fits_a_larger_device_is_not_used_on_a_smaller(self) -> None:
        large = replace(TRAITS, vector_registers=32)
        wide = max(CONV.space(large), key=lambda one: one["tile"] * one["blocks"])
        records = Records(None)
        records.add(record(wide, ALIKE, traits=large))
        assert records.find(CONV, large, HERE) == (wide, "architecture")
        assert records.find(CONV, TRAITS, HERE) is None

    def test_choices(self) -> None:
        records = Records(None)
        records.add(record({"winograd": 2}, problem=Convolution(CONV)))
        assert Choices(records, TRAITS, HERE).algorithm(CONV) == 2
        assert Choices(records, TRAITS, HERE, exact=True).algorithm(CONV) == 0
        assert Choices(records, TRAITS, HERE).rung(Convolution(CONV)) == "device"
        softmax = PROBLEMS["softmax"]
        assert Choices(records, TRAITS, HERE).parameters(softmax, TRAITS) == softmax.default(TRAITS)


class TestFile:
    def test_written_lines_are_read_back(self, tmp_path: Path) -> None:
        path = tmp_path / "store" / "tuning.jsonl"
        one, two = record(spaced(CONV, 1)), record(spaced(CONV, 2), ALIEN, verdict="noise")
        Records(path).add(one, two)
        assert list(Records(path)) == [one, two]
        assert [json.loads(line)["parameters"] for line in path.read_text().splitlines()] == [
            dict(one.parameters), dict(two.parameters)
        ]  # fmt: skip

    def test_a_torn_last_line_loses_only_itself(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "tuning.jsonl"
        one, two = record(spaced(CONV, 1)), record(spaced(CONV, 2))
        Records(path).add(one, two)
        whole = path.read_bytes()
        for cut in range(len(one.line()) + 2, len(whole) - 1, 37):
            path.write_bytes(whole[:cut])
            records = Records(path)
            assert list(records) == [one]
            records.add(two)
            assert list(Records(path)) == [one, two]
        assert "1 of its lines" in caplog.text

    @pytest.mark.parametrize("damage", [b"\n\xff\xfe\0\n", b"{}\n", b"[" * 100_000 + b"\n", b"null\n", b'"x"\n'])
    def test_damage_costs_its_lines(self, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "tuning.jsonl"
        one = record(spaced(CONV, 1))
        path.write_bytes(damage + one.line().encode() + b"\n")
        assert list(Records(path)) == [one]
        assert "1 of its lines are no tuning records" in caplog.text

    def test_what_can_not_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="tuning records can't be written"):
            Records(tmp_path / "file" / "tuning.jsonl").add(record(spaced(CONV, 1)))

    def test_what_can_not_be_read_is_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert len(Records(tmp_path / "absent")) == 0
        assert not caplog.text
        assert len(Records(tmp_path)) == 0
        assert "can't be read" in caplog.text


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tile beyond the space": lambda one: one["parameters"].update(tile=1000),
    "negative tile": lambda one: one["parameters"].update(tile=-1),
    "tile of text": lambda one: one["parameters"].update(tile="1; evil()"),
    "tile of float": lambda one: one["parameters"].update(tile=1.0),
    "tile of bool": lambda one: one["parameters"].update(tile=True),
    "more parameters": lambda one: one["parameters"].update(more=1),
    "no parameters": lambda one: one.update(parameters=[]),
    "registers that no device has": lambda one: one["traits"].update(vector_registers=1 << 30),
    "unknown family": lambda one: one.update(family="evil"),
    "family of another type": lambda one: one.update(family=["conv2d"]),
    "problem of another family": lambda one: one.update(family="matmul"),
    "a field too many": lambda one: one["problem"].update(epilogue="y[-1] = 0"),
    "a field too few": lambda one: one["problem"].pop("c"),
    "a word for a number": lambda one: one["problem"].update(c="4"),
    "huge numbers": lambda one: one["problem"]["window"].update(output=[1 << 60, 1 << 60]),
    "no channels in a block": lambda one: one["problem"].update(c=0),
    "code as a layout": lambda one: one["problem"].update(layouts=["*/ evil", "blocked"]),
    "unknown layout": lambda one: one["problem"].update(layouts=["evil", "blocked"], window=one["problem"]["window"]),
    "control characters": lambda one: one["place"].update(name="\x1b[31m"),
    "long text": lambda one: one["place"].update(name="x" * 1000),
    "unknown verdict": lambda one: one.update(verdict="excellent"),
    "time of text": lambda one: one.update(seconds="1"),
    "infinite time": lambda one: one.update(seconds=float("inf")),
    "another format": lambda one: one.update(format=3),
    "another field": lambda one: one.update(more=1),
}


class TestImport:
    @pytest.fixture(autouse=True)
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
        return tmp_path / "store" / "tuning.jsonl"

    def test_export_and_import(self, store: Path, tmp_path: Path) -> None:
        best = [record(spaced(CONV, 1)), record(spaced(CONV, 2), ALIKE)]
        Records(store).add(record(spaced(CONV, 0)), *best, record(spaced(CONV, 3), verdict="slower"))
        assert tool.export(tmp_path / "out.jsonl").records == 2
        store.unlink()
        moved = tool.import_(tmp_path / "out.jsonl")
        assert (moved.records, moved.known) == (2, 0)
        assert Records(store).best() == best
        again = tool.import_(tmp_path / "out.jsonl")
        assert (again.records, again.known) == (0, 2)

    def test_what_was_measured_here_stays_the_last_word(self, store: Path, tmp_path: Path) -> None:
        Records(store).add(record(spaced(CONV, 1)))
        (tmp_path / "in.jsonl").write_text(record(spaced(CONV, 2)).line() + "\n")
        tool.import_(tmp_path / "in.jsonl")
        assert Records(store).find(CONV, TRAITS, HERE) == (spaced(CONV, 1), "device")

    def test_nothing_to_export(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no tuning records yet"):
            tool.export(tmp_path / "out.jsonl")

    @pytest.mark.parametrize("what", HOSTILE)
    def test_a_strangers_file(self, store: Path, tmp_path: Path, what: str) -> None:
        given = json.loads(record(spaced(CONV, 2)).line())
        HOSTILE[what](given)
        file = tmp_path / "in.jsonl"
        file.write_text(record(spaced(CONV, 1)).line() + "\n" + json.dumps(given) + "\n")
        with pytest.raises(InputError, match=r"in\.jsonl, line 2: .*Nothing of the file was taken"):
            tool.import_(file)
        assert not store.exists()
        # nor does it reach a kernel from the user's own file
        store.parent.mkdir(exist_ok=True)
        store.write_text(json.dumps(given) + "\n")
        found = Records(store).find(CONV, TRAITS, HERE)
        assert found is None or legal(CONV, found[0], TRAITS) == found[0]

    @pytest.mark.parametrize("content", [b"\x7fELF\x02\x01", b"{" * 10_000, b"\xff" * 100, b"{}", b"[1]", b"NaN"])
    def test_no_records_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "in").write_bytes(content)
        with pytest.raises(InputError, match="line 1"):
            read_strictly(tmp_path / "in")

    def test_too_large_or_absent(self, tmp_path: Path) -> None:
        with (tmp_path / "in").open("wb") as file:
            os.truncate(file.fileno(), (1 << 26) + 1)
        with pytest.raises(InputError, match="larger than"):
            read_strictly(tmp_path / "in")
        with pytest.raises(StorageError, match="check the path"):
            read_strictly(tmp_path / "absent")

    def test_a_line_that_is_too_long(self) -> None:
        with pytest.raises(ValueError, match="characters"):
            parse(" " * (1 << 19))


class TestJudge:
    def test_a_clear_win(self) -> None:
        verdict = judge([(1.0, 0.9 + 0.001 * (n % 3)) for n in range(15)])
        assert verdict.win
        assert verdict.ratio == pytest.approx(0.901)

    def test_a_win_below_the_noise_is_refused(self) -> None:
        quiet = [(1.0, 0.97 + 0.001 * (n % 3)) for n in range(15)]
        assert judge(quiet).win
        assert not judge(quiet, floor=0.02).win
        assert not judge([(1.0, 0.97 + 0.15 * (n % 3 - 1)) for n in range(15)]).win

    def test_less_than_a_hundredth_is_no_win(self) -> None:
        assert not judge([(1.0, 0.995)] * 15).win

    def test_one_lucky_pair_is_no_win(self) -> None:
        assert not judge([(1.0, 0.1)] + [(1.0, 1.0)] * 14).win


def plan_of(*problems: Conv2D) -> Plan:
    """Convolutions side by side on one input each."""
    buffers, inputs, outputs, calls = [], [], [], []
    for number, problem in enumerate(problems):
        places = []
        for what, size in (("x", problem.window.input), ("y", problem.window.output)):
            floats = 8 * size[0] * size[1]
            buffers.append(Buffer(what, 4 * floats))
            region = Region(len(buffers) - 1, 0, 4 * floats)
            places.append((PlanPort(f"{what}{number}", "float32", (floats,), region), region))
        weights = np.ones((8, 8, *problem.window.kernel), np.float32)
        operands = (places[0][1], Constant("w", weights), Constant("b", np.ones(8, np.float32)))
        calls.append(KernelCall(problem, operands, places[1][1], f"node{number}"))
        inputs.append(places[0][0])
        outputs.append(places[1][0])
    return Plan(Layout(4, 128), tuple(buffers), tuple(inputs), tuple(outputs), tuple(calls))


class Bench:
    """Takes a second of a clock of its own for each candidate; times and ends are the test's."""

    workers = 2

    def __init__(self, times: Callable[[str], float], ends: Callable[[str], Loaded] | None = None) -> None:
        self.times, self.ends = times, ends or (lambda name: Loaded("", 1.0))
        self.now, self.held, self.loaded = 0.0, [set[str](), set[str]()], list[str]()

    def clock(self) -> float:
        return self.now

    def load(self, lists: Sequence[Sequence[Candidate]], references: Sequence[str]) -> list[list[Loaded]]:
        found = []
        for worker, candidates in enumerate(lists):
            results = []
            for one in candidates:
                self.now += 0.5
                self.loaded.append(one.name)
                results.append(self.ends(one.name) if references[worker] else Loaded("", 1.0))
                if results[-1].verdict in ("died", "late"):
                    self.held[worker].clear()
                elif not results[-1].verdict:
                    self.held[worker].add(one.name)
            found.append(results)
        return found

    def holds(self, worker: int, name: str) -> bool:
        return name in self.held[worker]

    def time(self, worker: int, names: tuple[str, str], pairs: int) -> list[tuple[float, float]]:
        assert self.held[worker] >= set(names)
        self.now += 0.01
        return [(self.times(names[0]), self.times(names[1]))] * pairs

    def drop(self, worker: int, name: str) -> None:
        self.held[worker].discard(name)


SMALL = Conv2D(4, 1, (8, 8), Window((20, 20), (20, 20), (5, 5), pads=(2, 2)))
"""Winograd's method can't compute it."""


def tuned(
    bench: Bench, records: Records, budget: float = 1e6, *problems: Conv2D, exact: bool = False,
    watch: Callable[[State], None] | None = None,
) -> Summary:  # fmt: skip
    choices = Choices(records, TRAITS, HERE, exact)
    return tune(plan_of(*(problems or (SMALL,))), choices, bench, budget, watch, bench.clock)


def tile_of(candidate: str) -> int:
    return int(candidate.partition("tile=")[2] or 0)


class TestSearch:
    def test_it_finds_the_fastest_and_stops(self) -> None:
        records = Records(None)
        found = tuned(Bench(lambda name: 1e-3 * (1 + abs(tile_of(name) - 4))), records)
        parameters, rung = records.find(SMALL, TRAITS, HERE) or ({}, "")
        assert (parameters["tile"], rung) == (4, "device")
        assert found.finished
        assert found.after < found.before
        assert len({one.parameters for one in records}) == found.measured

    def test_a_second_tuning_measures_nothing_again(self) -> None:
        records = Records(None)
        bench = Bench(lambda name: 1e-3 * (1 + abs(tile_of(name) - 4)))
        first = tuned(bench, records)
        again = Bench(bench.times)
        second = tuned(again, records)
        assert (second.measured, second.known, again.loaded) == (0, first.measured, [])

    def test_an_interrupted_tuning_goes_on(self, tmp_path: Path) -> None:
        bench = Bench(lambda name: 1e-3 * (1 + abs(tile_of(name) - 4)))
        seen = []

        def interrupt(state: State) -> None:
            seen.append(state)
            if state.measured > 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tuned(bench, Records(tmp_path / "r"), watch=interrupt)
        kept = Records(tmp_path / "r")
        assert len(kept) == seen[-1].measured
        again = Bench(bench.times)
        tuned(again, kept)
        tried = [one.parameters for one in Records(tmp_path / "r")]
        assert len(tried) == len(set(tried))
        found, _ = kept.find(SMALL, TRAITS, HERE) or ({}, "")
        assert found["tile"] == 4

    def test_the_budget_is_kept(self) -> None:
        bench = Bench(lambda name: 1e-3)
        found = tuned(bench, Records(None), 6.0)
        assert not found.finished
        assert 6.0 <= found.seconds < 12.0
        assert tuned(Bench(bench.times), Records(None), 0.0).measured == 0

    def test_the_hottest_first(self) -> None:
        hot, cold = replace(SMALL, batch=1), replace(SMALL, window=Window((10, 10), (10, 10), (5, 5), pads=(2, 2)))
        bench = Bench(lambda name: 1e-3 if name.startswith("0:") else 1e-6)
        bench.workers = 1
        records = Records(None)
        tuned(bench, records, 12.0, cold, hot)
        counts = {key: sum(one.key == key for one in records) for key in (key_of(hot), key_of(cold))}
        assert counts[key_of(hot)] > 4 * counts[key_of(cold)] > 0

    @pytest.mark.parametrize("verdict", ["refused", "died", "late"])
    def test_failures_are_recorded_and_passed_over(self, verdict: str) -> None:
        def ends(name: str) -> Loaded:
            return Loaded(verdict if tile_of(name) % 2 else "", 1.0)

        records = Records(None)
        found = tuned(Bench(lambda name: 1e-3 * (1 + abs(tile_of(name) - 4)), ends), records)
        assert found.finished
        assert found.verdicts[verdict] > 0
        assert (records.find(SMALL, TRAITS, HERE) or ({}, ""))[0]["tile"] == 4

    def test_a_wrong_answer_never_wins(self) -> None:
        def ends(name: str) -> Loaded:
            return Loaded("", 1.0, difference=0.1 if tile_of(name) == 4 else 1e-7)

        records = Records(None)
        found = tuned(Bench(lambda name: 1e-3 * (1 + abs(tile_of(name) - 4)), ends), records)
        assert found.verdicts["wrong"] > 0
        assert (records.find(SMALL, TRAITS, HERE) or ({}, ""))[0]["tile"] != 4

    def test_what_is_faster_by_chance_is_refused(self) -> None:
        """The same time for all, with noise: nothing may win."""
        random = np.random.default_rng(0)

        class Noisy(Bench):
            def time(self, worker: int, names: tuple[str, str], pairs: int) -> list[tuple[float, float]]:
                return [tuple(1e-3 * random.normal(1, 0.1, 2)) for _ in range(pairs)]

        records = Records(None)
        found = tuned(Noisy(lambda name: 1e-3), records)
        assert found.won == 0
        assert (records.find(SMALL, TRAITS, HERE) or ({}, ""))[0] == SMALL.default(TRAITS)

    def test_algorithms_are_chosen_unless_exact(self) -> None:
        def times(name: str) -> float:
            return 1e-3 if "winograd=2" in name else 2e-3

        for exact, wanted in ((False, 2), (True, 0)):
            records = Records(None)
            tuned(Bench(times), records, 1e6, CONV, exact=exact)
            assert Choices(records, TRAITS, HERE, exact).algorithm(CONV) == wanted
            assert any(one.family == "convolution" for one in records) != exact

    def test_records_of_others_are_checked_before_they_are_believed(self) -> None:
        records = Records(None)
        records.add(record(spaced(SMALL, 4), ALIKE, SMALL))

        def ends(name: str) -> Loaded:
            return Loaded("", 1.0, difference=1.0)

        tuned(Bench(lambda name: 1e-3, ends), records)
        assert records.find(SMALL, TRAITS, HERE) == (SMALL.default(TRAITS), "device")
