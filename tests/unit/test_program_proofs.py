"""What is known to work here is remembered, and never piles up."""

from __future__ import annotations

import os
from pathlib import Path

from mace_cl.program.proofs import MOST, Proofs


def name(number: int) -> str:
    return f"{number:064x}"


def test_a_proof_is_known_once_recorded(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path / "store")
    assert not proofs.known(name(1))
    proofs.record(name(1))
    assert (proofs.known(name(1)), proofs.known(name(2))) == (True, False)
    Proofs(None).record(name(1))
    assert not Proofs(None).known(name(1))


def test_the_oldest_make_room(tmp_path: Path) -> None:
    folder = tmp_path / "proven"
    folder.mkdir()
    for number in range(MOST + 3):
        (folder / name(number)).touch()
        os.utime(folder / name(number), (1000 + number, 1000 + number))
    (folder / "notes.txt").touch()
    proofs = Proofs(tmp_path)
    proofs.record(name(MOST + 3))
    assert len(os.listdir(folder)) == MOST + 1, "and what is not ours"
    assert [proofs.known(name(number)) for number in (0, 3, 4, MOST + 3)] == [False, False, True, True]


def test_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "proven").write_text("precious")
    proofs = Proofs(tmp_path)
    proofs.record(name(1))
    assert not proofs.known(name(1))
    assert (tmp_path / "proven").read_text() == "precious"
