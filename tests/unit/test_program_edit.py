"""Programs made of programs: what is joined, what is cut, what is told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mace_cl.errors import ProgramError
from mace_cl.program.edit import KEPT_DRIVERS, MOST_TARGETS, Change, add_target, diff, extract, merge, strip
from mace_cl.program.format import open_program, read, write
from mace_cl.program.program import Program, Target, Unit

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
CPU, GPU = SAMPLE.targets


def only(*targets: Target) -> Program:
    return replace(SAMPLE, targets=targets)


def under(driver: str, target: Target = CPU) -> Target:
    return replace(target, signature=replace(target.signature, driver=driver))


def test_merge_keeps_every_device() -> None:
    assert merge([only(CPU), only(GPU)]) == SAMPLE
    assert merge([only(GPU), only(CPU)]).targets == (GPU, CPU)
    assert merge([SAMPLE]) == merge([SAMPLE, SAMPLE]) == SAMPLE


def test_merged_files_share_what_is_equal(tmp_path: Path) -> None:
    sizes = []
    for number, program in enumerate([only(CPU), merge([only(under(f"{n}")) for n in range(10)])]):
        write(program, tmp_path / f"{number}.bin")
        sizes.append((tmp_path / f"{number}.bin").stat().st_size)
        assert len(open_program(tmp_path / f"{number}.bin").manifest.sections) == 5
    assert sizes[1] < 2 * sizes[0]


def test_merge_takes_binaries_and_weights_from_whoever_has_them() -> None:
    bare = strip(only(CPU), constants=True, binaries=True)
    assert merge([bare, only(CPU)]).targets == merge([only(CPU), bare]).targets == (CPU,)
    assert merge([bare, bare]).targets == bare.targets


def test_merge_takes_the_later_of_two_different_parts_for_one_device() -> None:
    tuned = replace(CPU, schedule=replace(CPU.schedule, build_options="-cl-mad-enable"))
    assert merge([only(CPU, GPU), only(tuned)]).targets == (tuned, GPU)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SAMPLE, model=replace(SAMPLE.model, sha256="cd" * 32)), r"different models, tiny \(abababababab…\)"),
        (replace(SAMPLE, options=()), "different options, precision=float32, layout=nchw8c and none"),
        (replace(SAMPLE, engine="f" * 64), r"different code, mace-cl 0\.1\.0 \(eeeeeeeeeeee…\)"),
    ],
)
def test_merge_refuses_what_does_not_belong_together(other: Program, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        merge([SAMPLE, other])


def test_merge_of_nothing() -> None:
    with pytest.raises(ProgramError, match="nothing to merge"):
        merge([])


def test_options_have_no_order() -> None:
    assert merge([SAMPLE, replace(SAMPLE, options=SAMPLE.options[::-1])]).targets == SAMPLE.targets


@pytest.mark.parametrize(
    ("which", "targets"),
    [
        (["1"], (CPU,)),
        (["2"], (GPU,)),
        (["2", "1"], (CPU, GPU)),
        (["gpu"], (GPU,)),
        (["AnyCL CPU"], (CPU,)),
        (["anycl"], (CPU, GPU)),
        (["26.2"], (GPU,)),
    ],
)
def test_extract(which: list[str], targets: tuple[Target, ...]) -> None:
    assert extract(SAMPLE, which) == only(*targets)


@pytest.mark.parametrize("name", ["3", "0", "npu"])
def test_extract_names_what_there_is(name: str) -> None:
    with pytest.raises(ProgramError, match=f"no target is called '{name}'; there are 1: AnyCL CPU .*; 2: OtherCL GPU"):
        extract(SAMPLE, ["1", name])


def test_extract_of_nothing() -> None:
    with pytest.raises(ProgramError, match="name at least one"):
        extract(SAMPLE, [])


def test_strip(tmp_path: Path) -> None:
    assert strip(SAMPLE) == SAMPLE
    assert [target.constants for target in strip(SAMPLE, constants=True).targets] == [None, None]
    assert {unit.binary for target in strip(SAMPLE, binaries=True).targets for unit in target.units} == {None}
    bare = strip(SAMPLE, constants=True, binaries=True)
    write(bare, tmp_path / "bare.bin")
    assert read(tmp_path / "bare.bin") == bare
    assert {section.kind for section in open_program(tmp_path / "bare.bin").manifest.sections} == {1}


def test_strip_of_a_model_without_weights() -> None:
    schedule = replace(CPU.schedule, constant_bytes=0, launches=CPU.schedule.launches[1:])
    target = replace(CPU, schedule=schedule, constants=memoryview(b""))
    assert strip(only(target), constants=True) == only(target)


def test_add_target_keeps_the_others() -> None:
    assert add_target(only(CPU), GPU) == SAMPLE


def test_add_target_replaces_its_own_kind() -> None:
    bare = replace(CPU, units=tuple(Unit(unit.kernels, None) for unit in CPU.units))
    assert add_target(SAMPLE, bare).targets == (GPU, bare)


def test_add_target_keeps_some_old_drivers_to_go_back_to() -> None:
    program = only(GPU)
    for number in range(6):
        program = add_target(program, under(f"{number}"))
    assert [target.signature.driver for target in program.targets] == ["26.2", "3", "4", "5"]
    assert KEPT_DRIVERS == 2


def test_add_target_keeps_a_bounded_number() -> None:
    program = only(CPU)
    for number in range(50):
        program = add_target(program, replace(GPU, signature=replace(GPU.signature, device=f"device {number}")))
    assert len(program.targets) == MOST_TARGETS
    assert program.targets[-1].signature.device == "device 49"
    assert program.targets[0].signature.device == "device 18"


# ---- differences ----


def _kernel(target: Target, **change: object) -> Target:
    first, *rest = target.schedule.kernels
    return replace(target, schedule=replace(target.schedule, kernels=(replace(first, **change), *rest)))  # type: ignore[arg-type]


def test_equal_programs_do_not_differ() -> None:
    assert diff(SAMPLE, SAMPLE).empty
    assert diff(SAMPLE, only(GPU, CPU)).empty


def test_diff_of_the_whole() -> None:
    other = replace(SAMPLE, producer="mace-cl 9", options=(("precision", "float16"),), targets=(under("3.2"), GPU))
    found = diff(SAMPLE, other)
    assert found.changes == (
        Change("producer", "mace-cl 0.1.0", "mace-cl 9"),
        Change("option precision", "float32", "float16"),
        Change("option layout", "nchw8c", "absent"),
    )
    assert found.removed == ("AnyCL CPU (AnyCL, driver 3.1)",)
    assert found.added == ("AnyCL CPU (AnyCL, driver 3.2)",)
    assert found.targets == ()
    assert not found.empty


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (lambda t: _kernel(t, name="conv_9"), "added", ("conv_9",)),
        (lambda t: _kernel(t, name="conv_9"), "removed", ("conv_0",)),
        (lambda t: _kernel(t, source="__kernel void conv_0() {}"), "sources", ("conv_0",)),
        (lambda t: _kernel(t, parameters=()), "parameters", (Change("conv_0", "tile=28, rows=-1", "none"),)),
        (lambda t: replace(t, units=(Unit((0,), b"x"), t.units[1])), "binaries", ("conv_0",)),
        (lambda t: replace(t, units=(Unit((0,), None), t.units[1])), "binaries", ("conv_0",)),
    ],
)
def test_diff_of_kernels(change: Callable[[Target], Target], field: str, value: tuple[object, ...]) -> None:
    (found,) = diff(only(CPU), only(change(CPU))).targets
    assert found.device == "AnyCL CPU (AnyCL, driver 3.1)"
    assert getattr(found, field) == value
    kernels = {"added", "removed", "sources", "parameters", "binaries"}
    others = {name for name in kernels if getattr(found, name)} - {field}
    assert others <= {"added", "removed"}


def test_diff_of_sizes_and_weights() -> None:
    other = replace(CPU, schedule=replace(CPU.schedule, arena_bytes=9216, build_options=""), constants=None)
    (found,) = diff(only(CPU), only(other)).targets
    changes = {change.name: (change.first, change.second) for change in found.changes}
    assert changes.keys() == {"arena bytes", "build options", "weights"}
    assert changes["arena bytes"] == ("8192", "9216")
    assert changes["weights"][1] == "outside"


def test_kernels_of_one_name_are_told_apart() -> None:
    twice = replace(CPU.schedule, kernels=(CPU.schedule.kernels[0],) * 2)
    one = replace(CPU, schedule=twice)
    other = replace(one, schedule=replace(twice, kernels=(twice.kernels[0], replace(twice.kernels[0], source="x"))))
    assert diff(only(one), only(other)).targets[0].sources == ("conv_0 #2",)
