"""Each row of the rules: which file is used, which is not, and what is said about it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mace_cl.errors import DamagedError, ForeignError, FutureError, MaceClError, StorageError
from mace_cl.program import policy
from mace_cl.program.format import Opened, read, write
from mace_cl.program.policy import SET_ASIDE, Decision, decide, examine, quarantine
from mace_cl.program.program import Program, Target

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
HERE = SAMPLE.targets[0].signature
MODEL = SAMPLE.model.sha256


def test_a_hit_names_the_target() -> None:
    both = replace(SAMPLE, targets=(SAMPLE.targets[0], _elsewhere(SAMPLE.targets[0])))
    for number, target in enumerate(both.targets):
        decision = decide(both, device=target.signature, model=MODEL, options=SAMPLE.options, engine=SAMPLE.engine)
        assert decision == Decision("use", "hit", decision.sentence, number)
        assert target.signature.device in decision.sentence


def _elsewhere(target: Target) -> Target:
    return replace(target, signature=replace(target.signature, device="Elsewhere"))


def test_sources_alone_are_no_hit() -> None:
    """The second part of the sample has a unit without a binary."""
    decision = decide(SAMPLE, device=SAMPLE.targets[1].signature)
    assert (decision.action, decision.code) == ("compile", "no-binaries")
    assert "as sources only" in decision.sentence


def test_without_a_wish_any_model_options_and_engine_will_do() -> None:
    assert decide(SAMPLE, device=HERE).action == "use"


def test_options_have_no_order() -> None:
    assert decide(SAMPLE, device=HERE, options=SAMPLE.options[::-1]).action == "use"


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (None, "no-file", "no compiled program yet"),
        (DamagedError("p.bin: damaged at byte 5: x."), "damaged", "damaged at byte 5"),
        (FutureError("p.bin: has format version 4"), "future-version", "version 4"),
        (ForeignError("p.bin: it looks like a zip archive"), "not-a-program", "zip archive"),
        (StorageError("p.bin: can't be read (Permission denied)"), "unreadable", "Permission denied"),
    ],
)
def test_what_can_not_be_read(found: MaceClError | None, code: str, words: str) -> None:
    decision = decide(found, device=HERE)
    assert (decision.action, decision.code, decision.target) == ("compile", code, None)
    assert words in decision.sentence
    assert (code in SET_ASIDE) == (code in {"damaged", "future-version", "not-a-program"})


def _outside(program: Program) -> Program:
    return replace(program, targets=tuple(replace(target, constants=None) for target in program.targets))


@pytest.mark.parametrize(
    ("decision", "code", "words"),
    [
        (
            decide(SAMPLE, device=HERE, model="cd" * 32),
            "other-model",
            "tiny, sha256 abababababab…, not cdcdcdcdcdcd…",
        ),
        (
            decide(SAMPLE, device=HERE, options=(("precision", "float16"), ("bake", "1"))),
            "other-options",
            "bake was absent, now 1, layout was nchw8c, now absent, precision was float32, now float16",
        ),
        (decide(SAMPLE, device=HERE, engine="f" * 64), "engine-changed", "eeeeeeeeeeee…, not ffffffffffff…"),
        (decide(SAMPLE, device=replace(HERE, driver="3.2")), "driver-changed", "driver: '3.2' here, '3.1' there"),
        (
            decide(SAMPLE, device=replace(HERE, properties=(("compute_units", "2"),))),
            "driver-changed",
            "local_memory: 'absent' here, '524288' there",
        ),
        (
            decide(SAMPLE, device=replace(HERE, device="Third")),
            "device-missing",
            "for AnyCL CPU, OtherCL GPU, none for Third",
        ),
        (decide(_outside(SAMPLE), device=HERE), "no-weights", "neither inside|not inside"),
    ],
)
def test_what_does_not_fit(decision: Decision, code: str, words: str) -> None:
    assert (decision.action, decision.code, decision.target) == ("compile", code, None)
    assert any(word in decision.sentence for word in words.split("|"))


def test_weights_at_hand_outside() -> None:
    assert decide(_outside(SAMPLE), device=HERE, weights=True).action == "use"


def test_every_code_is_documented() -> None:
    codes = {"no-file", "damaged", "future-version", "not-a-program", "unreadable", "other-model", "other-options"}
    codes |= {"engine-changed", "driver-changed", "device-missing", "no-weights", "hit"}
    page = (Path(__file__).parents[2] / "docs" / "program-file.md").read_text(encoding="utf-8")
    for code in codes:
        assert f"\n    {code} " in str(policy.__doc__)
        assert f"| `{code}` |" in page


def test_examine(tmp_path: Path) -> None:
    path = tmp_path / "program.bin"
    assert examine(path) is None
    write(SAMPLE, path)
    opened = examine(path)
    assert isinstance(opened, Opened)
    assert opened.program == SAMPLE
    path.write_bytes(path.read_bytes()[:100])
    assert isinstance(examine(path), DamagedError)
    path.write_bytes(b"hello\n")
    assert isinstance(examine(path), ForeignError)
    assert isinstance(examine(tmp_path), StorageError)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert isinstance(examine(tmp_path / "nowhere"), StorageError)


def test_quarantine_keeps_three(tmp_path: Path) -> None:
    path = tmp_path / "program.bin"
    for number in range(5):
        path.write_bytes(b"%d" % number)
        os.utime(path, ns=(number, number))
        assert quarantine(path) == tmp_path / f"program.bin.damaged-{number % 3 + 1}"
        assert not path.exists()
    assert sorted(entry.read_bytes() for entry in tmp_path.iterdir()) == [b"2", b"3", b"4"]


def test_quarantine_that_fails(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be set aside"):
        quarantine(tmp_path / "gone.bin")
