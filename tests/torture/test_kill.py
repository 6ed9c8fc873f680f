"""``kill -9`` at random moments of compiling and saving: what was whole stays whole, and every answer is right.

``--kills N`` sets how many processes die in each test (a quarter of them in the last); 200 take some minutes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import mace_cl
from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.program.format import read, write
from starts import NET, begin, end, models
from support import difference


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return models(tmp_path / "models")


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.tmp") if path.name.startswith(".mace-cl-")]


@dataclass
class Moments:
    """Random moments in the life of a process, which lasts about ``whole`` seconds."""

    chance: random.Random
    whole: float

    def kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the process died of it, and did not end before."""
        begun = time.monotonic()
        try:
            process.wait(self.chance.uniform(0.1 * self.whole, self.whole))
            self.whole = (self.whole + time.monotonic() - begun) / 2
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        return process.returncode == -signal.SIGKILL


def grow_old(folder: Path) -> None:
    for path in leftovers(folder):
        os.utime(path, (1, 1))


def test_starts(model: Path, device: Device, tmp_path: Path, store: Path, kills: int, chance: random.Random) -> None:
    """Of a model with the store, or with a named file, which may hold another device's part."""
    path = tmp_path / "files" / "net.bin"
    path.parent.mkdir()
    mace_cl.compile(model, path, device=device, bake=True, store=False)
    program = read(path)
    (target,) = program.targets
    other = replace(program, targets=(replace(target, signature=replace(target.signature, device="Elsewhere")),))
    write(other, path)
    old = path.read_bytes()
    begun = time.monotonic()
    end(begin(model, device))
    moments = Moments(chance, time.monotonic() - begun)
    died = ended = kept = 0
    while died < kills:
        named = (died + ended) % 2 == 0
        for one in store.glob("*.bin"):
            one.unlink()
        path.write_bytes(old)
        if moments.kill(begin(model, device, path if named else None)):
            died += 1
        else:
            ended += 1
        there = [path, *store.glob("*.bin")]
        for one in there:
            found = read(one)
            signatures = [target.signature for target in found.targets]
            assert device.signature in signatures or one.read_bytes() == old
            kept += device.signature in signatures
            assert (other.targets[0] in found.targets) == (one == path)
        with Runtime(model, device=device, program=path if named else None) as runtime:
            assert runtime.decision.code in ("hit", "device-missing", "no-file")
            assert difference(runtime.run(NET.inputs)["y"], NET.expected["y"]) <= 1e-5
    print(f"{died} killed, {ended} ended before; {kept} files were complete; {len(leftovers(tmp_path))} leftovers")
    # what killed processes leave is removed by a later save, if nobody can be writing it any more
    for folder in (path.parent, store):
        (folder / f".mace-cl-{os.getpid()}-00000000.tmp").write_bytes(b"a half")
    grow_old(tmp_path)
    for one in store.glob("*.bin"):
        one.unlink()
    path.write_bytes(old)
    for place in (path, None):
        Runtime(model, device=device, program=place).close()
    assert leftovers(tmp_path) == []


_WRITER = """
import sys
from pathlib import Path
from mace_cl.program.format import read, write
one, other, path = read(Path(sys.argv[1])), read(Path(sys.argv[2])), Path(sys.argv[3])
print("ready", flush=True)
while True:
    write(one, path)
    write(other, path)
"""


def test_saves(model: Path, device: Device, tmp_path: Path, kills: int, chance: random.Random) -> None:
    """A process does nothing but save two programs in turn: after its death the file is one of them."""
    files = [tmp_path / name for name in ("one.bin", "other.bin", "file.bin")]
    mace_cl.compile(model, files[0], device=device, bake=True, store=False)
    program = read(files[0])
    write(replace(program, options=(("shape.x", "1"),)), files[1])
    contents = [path.read_bytes() for path in files[:2]]
    seen = set()
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, *map(str, files)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.communicate()
        if files[2].exists():
            assert files[2].read_bytes() in contents
            seen.add(contents.index(files[2].read_bytes()))
    assert seen or kills < 5


def test_compile(model: Path, device: Device, tmp_path: Path, kills: int, chance: random.Random) -> None:
    """`mace-cl compile` over a good file: it is replaced by a whole one, or not at all."""
    path = tmp_path / "net.bin"
    command = [
        sys.executable,
        "-m",
        "mace_cl",
        "compile",
        str(model),
        "-o",
        str(path),
        "-q",
        "--device",
        device.runtime,
    ]
    begun = time.monotonic()
    subprocess.run([*command, "--bake"], check=True, stdout=subprocess.PIPE)
    moments = Moments(chance, time.monotonic() - begun)
    old = path.read_bytes()
    died = 0
    while died < max(1, kills // 4):
        died += moments.kill(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        unbaked = [target.constants is None for target in read(path).targets]
        assert path.read_bytes() == old or unbaked == [True]
        path.write_bytes(old)
