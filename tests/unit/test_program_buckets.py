"""Programs for many shapes: their parts, their rules, their bytes, and what an enemy could write into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgery import forge
from mace_cl.compiler import inputs_of
from mace_cl.errors import DamagedError, FutureError, InputError
from mace_cl.program import format as file_format
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.bucket import Bucket, Input, Value, bucket_of, usual
from mace_cl.program.edit import add_target, diff, extract, merge
from mace_cl.program.format import open_program, read, write
from mace_cl.program.inspect import look
from mace_cl.program.policy import decide
from mace_cl.program.program import Program, Target
from mace_cl.program.proofs import Proofs, use
from support import case, model_of

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
CPU, GPU = SAMPLE.targets
INPUTS = (Input("image", "float32", (None, 3, None, 16)), Input("k", "int64", (2,), parameter=True))
HERE = CPU.signature


def part(height: int, k: tuple[int, int] = (1, 2), target: Target = CPU) -> Target:
    """``target`` for another size of the image, which fits the same slot, and for other parameters."""
    (port,) = target.schedule.inputs
    schedule = replace(target.schedule, inputs=(replace(port, shape=(1, 3, height, 16)),))
    return replace(target, schedule=schedule, values=(Value.of("k", np.array(k)),))


def program(*targets: Target) -> Program:
    return replace(SAMPLE, inputs=INPUTS, targets=targets)


def wanted(height: int, k: tuple[int, int] = (1, 2)) -> Bucket:
    return bucket_of(INPUTS, {"image": np.zeros((1, 3, height, 16), np.float32), "k": np.array(k)})


def names(of: Program) -> list[str]:
    return [str(target.bucket) for target in of.targets]


def test_a_bucket_in_words() -> None:
    assert str(wanted(8)) == "image=1,3,8,16 k=[1,2]"
    assert str(Bucket((("s", ()), ("x", (2,))))) == "s=() x=2"
    assert wanted(8) == part(8).bucket
    assert len({wanted(8).digest(), wanted(9).digest(), wanted(8, (2, 1)).digest()}) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": np.zeros((1, 3, 8, 8), np.float32)}, r"\[1, 3, 8, 8\], the model has 'image' float32 \[\?, 3, \?"),
        ({"image": np.zeros((3, 8, 16), np.float32)}, r"has shape \[3, 8, 16\]"),
        ({"image": np.zeros((1, 3, 8, 16))}, "is float64, the model has float32; convert it with"),
        ({"k": np.array([1, 2, 3])}, r"'k' has shape \[3\]"),
        ({"k": np.array([1, 2], np.int32)}, "'k' is int32, the model has int64"),
        ({"z": np.zeros(1)}, r"unknown inputs \['z'\]; the model takes 'image' float32"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bucket_of(INPUTS, {"image": np.zeros((1, 3, 8, 16), np.float32), "k": np.array([1, 2]), **data})


def test_the_usual_bucket_has_a_batch_of_1() -> None:
    batch = Input("x", "float32", (None, 3))
    assert str(usual([batch, Input("s", "seq(tensor(float))", None)])) == "x=1,3"
    assert usual([batch, INPUTS[0]]) is usual([batch, INPUTS[1]]) is usual([Input("x", "float32", None)]) is None


def test_inputs_of_a_model() -> None:
    tile = model_of(case("tile", "y = Tile(x, x1)", x=(2, 3), x1=np.array([1, 2])))
    assert inputs_of(tile.SerializeToString()) == (
        Input("x", "float32", (2, 3)), Input("x1", "int64", (2,), parameter=True),
    )  # fmt: skip
    exp = model_of(case("exp", "y = Exp(x)", x=(2, 3)))
    assert inputs_of(exp.SerializeToString()) == ()
    exp.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    assert inputs_of(exp.SerializeToString()) == (Input("x", "float32", (None, 3)),)
    assert inputs_of(exp.SerializeToString(), {"x": (5, 3)}) == ()
    assert inputs_of(b"no model") == ()


def test_decisions() -> None:
    both = program(part(8), part(9), part(9, (2, 2)))
    for number, bucket in enumerate([wanted(8), wanted(9), wanted(9, (2, 2))]):
        decision = decide(both, device=HERE, bucket=bucket)
        assert (decision.code, decision.target) == ("hit", number)
        assert str(bucket) in decision.sentence
    missing = decide(both, device=HERE, bucket=wanted(10))
    assert (missing.action, missing.code) == ("compile", "bucket-missing")
    assert "for image=1,3,8,16 k=[1,2]; image=1,3,9,16" in missing.sentence
    assert "not for image=1,3,10,16 k=[1,2]" in missing.sentence
    assert decide(both, device=GPU.signature, bucket=wanted(8)).code == "device-missing"
    updated = replace(HERE, driver="9")
    assert decide(both, device=updated, bucket=wanted(8)).code == "driver-changed"
    mixed = program(part(8), part(9), replace(part(8), signature=updated))
    assert decide(mixed, device=updated, bucket=wanted(9)).code == "driver-changed"
    assert decide(mixed, device=updated, bucket=wanted(10)).code == "bucket-missing"


def test_there_and_back(tmp_path: Path) -> None:
    both = program(part(8), part(9))
    write(both, tmp_path / "p.bin")
    assert read(tmp_path / "p.bin") == both
    opened, seen = look(tmp_path / "p.bin")
    assert list(opened.manifest.requires) == ["buckets"]
    assert seen.inputs == INPUTS
    assert [target.bucket for target in seen.targets] == names(both)
    assert len(opened.manifest.sections) == 5  # both parts share theirs


def test_a_reader_that_does_not_know_buckets_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(program(part(8), part(9)), tmp_path / "p.bin")
    monkeypatch.setattr(file_format, "FEATURES", frozenset({"host"}))
    with pytest.raises(FutureError, match="'buckets'"):
        open_program(tmp_path / "p.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.inputs[1].shape.append(1 << 40), "can't be a parameter of ops"),
        (lambda m: m.inputs[0].shape.__setitem__(1, -7), "input 'image' of shape"),
        (lambda m: setattr(m.inputs[1], "dtype", "seq(tensor(float))"), "can't be a parameter"),
        (lambda m: setattr(m.inputs[1], "name", "image"), "two inputs of one name"),
        (lambda m: setattr(m.inputs[1], "parameter", False), "not each parameter once"),
        (lambda m: m.inputs.pop(), "not each parameter once"),
        (lambda m: m.ClearField("inputs"), "but no inputs that are parameters"),
        (lambda m: m.inputs.add(name="more", dtype="float32"), "not each other input once"),
        (lambda m: m.inputs[0].shape.pop(), "where the model takes 'image' float32"),
        (lambda m: m.inputs[0].shape.__setitem__(1, 4), "where the model takes"),
        (lambda m: setattr(m.targets[0].values[0], "data", b"\0" * 15), "has 15 bytes"),
        (lambda m: setattr(m.targets[0].values[0], "dtype", "object"), "the value of 'k', object"),
        (lambda m: m.targets[0].values[0].shape.__setitem__(0, 1 << 62), "the value of 'k'"),
        (lambda m: m.targets[0].values[0].shape.extend([1] * 9), "the value of 'k'"),
        (lambda m: m.targets[0].values.append(m.targets[0].values[0]), "not each parameter once"),
        (lambda m: m.targets[0].ClearField("values"), "not each parameter once"),
    ],
)
def test_hostile_manifests(change: Callable[[pb.Manifest], object], message: str, tmp_path: Path) -> None:
    write(program(part(8)), tmp_path / "p.bin")
    with pytest.raises(DamagedError, match=message):
        open_program(forge((tmp_path / "p.bin").read_bytes(), change))


def test_add_target_replaces_its_own_bucket() -> None:
    changed = replace(part(8), provenance=(("because", "test"),))
    assert add_target(program(part(8), part(9)), changed).targets == (part(9), changed)


def test_the_least_recently_used_goes_first() -> None:
    heights = {8: 5.0, 9: 1.0, 10: 3.0}
    there = program(*map(part, heights), replace(GPU, **_of_gpu()))
    uses = {part(height).bucket: when for height, when in heights.items()}
    made = add_target(there, part(11), buckets=3, last_use=lambda target: uses[target.bucket])
    assert [t.bucket for t in made.targets if t.signature == HERE] == [wanted(8), wanted(10), wanted(11)]
    assert made.targets[2].signature == GPU.signature


def _of_gpu() -> dict[str, Any]:
    one = part(8, target=GPU)
    return {"schedule": one.schedule, "values": one.values}


def test_buckets_are_bounded_in_bytes() -> None:
    """What buckets have in common counts once, as the file holds it once."""
    there = program(*map(part, (8, 9, 10)))
    assert CPU.constants is not None
    size = CPU.constants.nbytes + sum(len(unit.binary) for unit in CPU.units if unit.binary)
    assert len(add_target(there, part(11), budget=size).targets) == 4
    other = replace(part(11), constants=memoryview(bytes(CPU.constants.nbytes)))
    assert names(add_target(there, other, budget=size)) == ["image=1,3,11,16 k=[1,2]"]
    assert len(add_target(there, other, budget=2 * size).targets) == 4


def test_drivers_are_counted_not_parts() -> None:
    old = [replace(part(h), signature=replace(HERE, driver=driver)) for driver in "123" for h in (8, 9)]
    made = add_target(program(*old), part(8))
    assert [target.signature.driver for target in made.targets] == ["2", "2", "3", "3", HERE.driver]


def test_merge_extract_and_diff() -> None:
    whole = merge([program(part(8), part(9)), program(part(9), part(10))])
    assert names(whole) == names(program(part(8), part(9), part(10)))
    assert names(extract(whole, ["image=1,3,9,16"])) == ["image=1,3,9,16 k=[1,2]"]
    found = diff(program(part(8), part(9)), program(part(9), part(10)))
    assert (len(found.removed), len(found.added), found.targets) == (1, 1, ())
    assert "image=1,3,8,16 k=[1,2]" in found.removed[0]
    assert diff(whole, whole).empty


def test_last_use(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path)
    one, other = use("ab" * 32, wanted(8)), use("ab" * 32, wanted(9))
    assert proofs.last_use(one) == 0
    for name in (one, other, one):
        proofs.record(name)
    assert proofs.last_use(one) > proofs.last_use(other) > 0
    assert Proofs(None).last_use(one) == 0


def test_sections_of_one_part(tmp_path: Path) -> None:
    """Damage in another bucket's weights is found when that is used, or the whole is checked."""
    other = replace(part(9), constants=memoryview(bytes(CPU.schedule.constant_bytes)))
    write(program(part(8), other), tmp_path / "p.bin")
    data = bytearray((tmp_path / "p.bin").read_bytes())
    sections = open_program(bytes(data)).manifest.sections
    at = max(section.offset for section in sections if section.kind == pb.KIND_CONSTANTS)
    data[at + 5] ^= 1
    opened = open_program(bytes(data))
    opened.verify_constants(0)
    opened.verify_code(0)
    with pytest.raises(DamagedError):
        opened.verify_constants(1)
    with pytest.raises(DamagedError):
        opened.verify()
