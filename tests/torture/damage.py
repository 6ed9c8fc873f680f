"""Damaged compiled programs by the thousand, each read in a child process that may die, hang or eat memory.

    python tests/torture/damage.py --files 20000

Every kind of damage is made of four files: plain, signed, encrypted, and signed with its key trusted.
The outcome of each is one of

    named      refused by an error of mace-cl that names the file and the damage: the only good one
    same       accepted, and the program is the one that was written: a forged seal where no key is trusted
    consistent accepted although it is not what was written: a forgery whose checksums are all right and
               which contradicts nothing.  Only a signature tells that; so none where a key is trusted
    wrong      accepted although no checksum was forged
    nameless   refused by an error of mace-cl that does not say what is wrong
    raised     another exception
    died       the process ended
    hung       no answer within the time limit
    memory     more than 32 MiB were allocated

The exit code is 0 if all are named, or same or consistent where no key is trusted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from mace_cl.errors import DamagedError, ForeignError, FutureError, MaceClError, SealError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.bucket import Input, Value
from mace_cl.program.format import Scanned, open_program, read, scan, write
from mace_cl.program.policy import open_trusted
from mace_cl.program.program import Program
from mace_cl.program.seal import keygen, sign
from mace_cl.schedule import CPU, HostStep, Node, Port, Slot

__all__ = ["KINDS", "Report", "torture"]

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
KEY = bytes(range(32))
MEMORY = 32 << 20
SECONDS = 10.0
BAD = ("wrong", "nameless", "raised", "died", "hung", "memory")
_EXTREMES = [0, 1, 63, 64, 4095, 4096, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]

Damage = Callable[[random.Random, bytes, Scanned], bytes]


# ---- what happens to a file ----


def _borders(file: Scanned) -> list[int]:
    """Every place at which something begins or ends."""
    text = 64 + file.text_length
    sections = [place for s in file.manifest.sections for place in (s.offset, s.offset + s.length)]
    fields = [0, 8, 12, 16, 24, 28, 32, 40, 44, 60, 64]
    return sorted({*fields, text, text + file.manifest_length, *sections, len(file.view) - file.seal_length})


def _regions(file: Scanned) -> list[tuple[int, int]]:
    """What lies between borders: fields of the header, text, manifest, gaps, sections, seal."""
    places = [*_borders(file), len(file.view)]
    return [(begin, end) for begin, end in pairwise(places) if begin < end]


def truncated(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """The file ends in any region, or just before, at or after a border."""
    if chance.random() < 0.5:
        length = chance.choice(_borders(file)) + chance.choice((-1, 0, 1))
    else:
        length = chance.randrange(*chance.choice(_regions(file)))
    return data[: min(max(length, 0), len(data) - 1)]


def extended(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Something follows: zeros, noise, the file itself."""
    length = chance.choice((1, 2, 63, 64, 4096))
    return data + chance.choice((bytes(length), chance.randbytes(length), data[:length]))


def flipped(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """One to three bits are inverted, in any region."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        out[chance.randrange(*chance.choice(_regions(file)))] ^= 1 << chance.randrange(8)
    return bytes(out)


def overwritten(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """A run of bytes becomes zeros, ones or noise, as of a block that was never written."""
    begin, end = chance.choice(_regions(file))
    place, length = chance.randrange(begin, end), chance.choice((1, 4, 64, 512, 4096))
    length = min(length, len(data) - place)
    content = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return data[:place] + content + data[place + length :]


def spliced(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Parts are cut out, doubled, or put in each other's place."""
    one, two, three = sorted(chance.sample([*_borders(file), *(chance.randrange(len(data)) for _ in range(8))], 3))
    return chance.choice(
        (
            data[:one] + data[two:],
            data[:two] + data[one:],
            data[:one] + data[two:three] + data[one:two] + data[three:],
        )
    )


def swapped_sections(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """The bytes of two sections change places, as far as they fit."""
    one, other = chance.sample(list(file.manifest.sections), 2)
    length = min(one.length, other.length)
    out = bytearray(data)
    first, second = out[one.offset : one.offset + length], out[other.offset : other.offset + length]
    out[one.offset : one.offset + length], out[other.offset : other.offset + length] = second, first
    return bytes(out)


def crossed(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """The beginning of this file, the rest of another program's."""
    place = chance.choice([*_borders(file)[1:], chance.randrange(1, len(data))])
    mixed = data[:place] + _other()[place:]
    return data if mixed == _other() else mixed


def noise(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """A right beginning, then anything."""
    begin = chance.choice((0, 8, 60, 64, 64 + file.text_length, 64 + file.text_length + file.manifest_length))
    return data[:begin] + chance.randbytes(chance.choice((0, 1, 64, 1000, 9000)))


def forged_lengths(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Numbers of the header become any others; its checksum is right."""
    places = {12: "<I", 16: "<Q", 24: "<I", 28: "<I", 32: "<Q", 40: "<I"}
    out = bytearray(data)
    for place in chance.sample(sorted(places), chance.randint(1, 3)):
        width = 32 if places[place] == "<I" else 64
        (value,) = struct.unpack_from(places[place], out, place)
        number = chance.choice([*_EXTREMES, value + 1, value - 1, len(data), len(data) + 1])
        struct.pack_into(places[place], out, place, number % (1 << width))
    return _with_right_header(out)


def forged_numbers(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Numbers anywhere in the manifest become any others; all checksums are right."""
    manifest = pb.Manifest.FromString(file.manifest.SerializeToString())
    numbers = _numbers(manifest)
    for _ in range(chance.randint(1, 3)):
        part, name, index = chance.choice(numbers)
        value = getattr(part, name) if index < 0 else getattr(part, name)[index]
        number = chance.choice([*_EXTREMES, value + 1, value - 1, -1])
        try:
            if index < 0:
                setattr(part, name, number)
            else:
                getattr(part, name)[index] = number
        except (ValueError, OverflowError):
            continue
    return _rebuilt(data, file, manifest, lay=chance.random() < 0.5)


def forged_bytes(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Bytes of the manifest become any others; all checksums are right."""
    begin = 64 + file.text_length
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        out[begin + chance.randrange(file.manifest_length)] = chance.randrange(256)
    struct.pack_into("<I", out, 12, zlib.crc32(out[64 : begin + file.manifest_length]))
    return _with_right_header(out)


def forged_sections(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """Bytes of a section become any others; its CRC32, and perhaps its SHA-256, are right again."""
    manifest = pb.Manifest.FromString(file.manifest.SerializeToString())
    section = chance.choice(list(manifest.sections))
    out = bytearray(data)
    out[section.offset + chance.randrange(section.length)] ^= chance.randrange(1, 256)
    content = out[section.offset : section.offset + section.length]
    section.crc32 = zlib.crc32(content)
    if chance.random() < 0.5:
        section.sha256 = hashlib.sha256(content).hexdigest()
    return _rebuilt(bytes(out), file, manifest)


def wrong_binary(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """A binary stands under another unit's or another program's name; all checksums are right."""
    manifest = pb.Manifest.FromString(file.manifest.SerializeToString())
    units = [unit for target in manifest.targets for unit in target.units if unit.HasField("binary")]
    if chance.random() < 0.5:
        one, other = chance.sample(units, 2)
        if one.binary == other.binary:
            one.binary = next(unit.binary for unit in units if unit.binary != one.binary)
        elif chance.random() < 0.5:
            one.binary, other.binary = other.binary, one.binary
        else:
            one.binary = other.binary
        return _rebuilt(data, file, manifest)
    section = manifest.sections[chance.choice(units).binary]
    content = (b"\x7fELF another program's binary" * 2)[: section.length]
    content = content[:-4] + chance.randbytes(4)
    section.crc32, section.sha256 = zlib.crc32(content), hashlib.sha256(content).hexdigest()
    out = data[: section.offset] + content + data[section.offset + section.length :]
    return _rebuilt(out, file, manifest)


def wrong_target(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """A part stands under another device's name, or devices change names; all checksums are right."""
    manifest = pb.Manifest.FromString(file.manifest.SerializeToString())
    one, *_, other = manifest.targets
    if chance.random() < 0.5:
        mine = pb.Signature.FromString(one.signature.SerializeToString())
        one.signature.CopyFrom(other.signature)
        other.signature.CopyFrom(mine)
    else:
        field = chance.choice(("vendor", "device", "driver", "platform", "device_version", "c_version"))
        setattr(one.signature, field, chance.choice(("", "Another", getattr(one.signature, field) + "?")))
    return _rebuilt(data, file, manifest)


def forged_seal(chance: random.Random, data: bytes, file: Scanned) -> bytes:
    """The seal is altered, cut, lengthened or exchanged; all checksums are right."""
    body, seal = data[: len(data) - file.seal_length], bytearray(data[len(data) - file.seal_length :])
    if seal and chance.random() < 0.6:
        seal[chance.randrange(len(seal))] ^= chance.randrange(1, 256)
    else:
        seal = bytearray(chance.choice((b"", b"Ed25519\0" + chance.randbytes(96), chance.randbytes(104), seal[:50])))
    out = bytearray(body) + seal
    struct.pack_into("<Q", out, 16, len(out))
    struct.pack_into("<QI", out, 32, len(seal), zlib.crc32(seal))
    return _with_right_header(out)


PLAIN: tuple[Damage, ...] = (
    truncated, extended, flipped, overwritten, spliced, swapped_sections, crossed, noise, wrong_binary, wrong_target,
)  # fmt: skip
FORGED: tuple[Damage, ...] = (forged_lengths, forged_numbers, forged_bytes, forged_sections, forged_seal)
"""What only a signature may tell: where no key is trusted, some of these contradict nothing."""

KINDS = {damage.__name__: damage for damage in (*PLAIN, *FORGED)}
FILES = ("plain", "signed", "encrypted", "trusted")


def _numbers(message: pb.Manifest) -> list[tuple[object, str, int]]:
    """Every whole number anywhere in ``message``: where it is, its field, its place in a list or -1."""
    found: list[tuple[object, str, int]] = []
    todo: list[object] = [message]
    while todo:
        part = todo.pop()
        for field, value in part.ListFields():  # type: ignore[attr-defined]
            if field.message_type is not None:
                todo.extend([value] if hasattr(value, "ListFields") else value)
            elif isinstance(value, int):
                found.append((part, field.name, -1))
            elif not isinstance(value, (str, bytes)) and isinstance(value[0], int):
                found.extend((part, field.name, index) for index in range(len(value)))
    return found


def _with_right_header(data: bytearray) -> bytes:
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    return bytes(data)


def _rebuilt(data: bytes, file: Scanned, manifest: pb.Manifest, lay: bool = True) -> bytes:
    """``data`` with another manifest, sections moved to where they must be if ``lay``, and right checksums."""
    contents = [data[s.offset : s.offset + s.length] for s in file.manifest.sections]
    text, seal = data[64 : 64 + file.text_length], data[len(data) - file.seal_length :]
    position = 64 + len(text) + manifest.ByteSize()
    body = b""
    for section, content in zip(manifest.sections, contents, strict=False):
        gap = -position % (4096 if section.kind == pb.KIND_CONSTANTS else 64)
        if lay:
            section.offset = position + gap
        body += bytes(gap) + content
        position += gap + len(content)
    head = text + manifest.SerializeToString(deterministic=True)
    end = 64 + len(head) + len(body) + len(seal)
    lengths = (zlib.crc32(head), end, len(text), len(head) - len(text), len(seal), zlib.crc32(seal))
    header = bytearray(struct.pack("<8sIIQIIQI16sI", data[:8], 3, *lengths, bytes(16), 0))
    return _with_right_header(header) + head + body + seal


def everything() -> Program:
    """The golden program with all that a file may hold: parts for several buckets, one with a step on the
    host, models and constants of it, golden values, and history."""
    program = read(GOLDEN)
    first, second = program.targets
    plain = first.schedule
    (image,) = plain.inputs
    text = Port("label", "string", None, None)
    weight = Port("weight", "float32", (16,), Slot("constants", 0, 64))
    step = HostStep(1, CPU, bytes(range(256)) * 3, (image,), (text,), (weight,), "tokens")
    hosted = replace(
        plain,
        outputs=(*plain.outputs, text),
        hosts=(step,),
        nodes=(Node("conv1", "Conv"), Node("tokens", "StringNormalizer", "strings have no place on OpenCL")),
    )
    golden = (("probabilities", memoryview(np.arange(10, dtype="<f4").tobytes())),)
    larger = replace(plain, inputs=(replace(image, shape=(1, 3, 8, 16)),))
    twos, fives = ((Value.of("k", np.array(values)),) for values in ((2, 2), (5, 5)))
    return replace(
        program,
        inputs=(Input("image", "float32", (None, 3, None, 16)), Input("k", "int64", (2,), parameter=True)),
        targets=(
            replace(first, schedule=hosted, golden=golden, values=twos, provenance=(("because", "test"),)),
            replace(first, schedule=larger, values=fives),
            replace(second, values=twos),
        ),
    )


_OTHER: list[bytes] = []


def _other() -> bytes:
    if not _OTHER:
        program = everything()
        with tempfile.TemporaryDirectory() as folder:
            write(replace(program, engine="f" * 64, targets=program.targets[:1]), Path(folder) / "other.bin")
            _OTHER.append((Path(folder) / "other.bin").read_bytes())
    return _OTHER[0]


# ---- what reading it gives ----


def outcome(path: Path, before: bytes, key: bytes | None, trusted: tuple[str, ...], forged: bool) -> tuple[str, str]:
    """Reads a damaged file as a start would; the outcome, and the error's text."""
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    try:
        opened = open_trusted(path, key=key, trusted_keys=trusted)
        opened.verify()
        if tracemalloc.get_traced_memory()[1] - start > MEMORY:
            return "memory", ""
        if opened.program == open_program(before, key).program:
            return ("same" if forged else "wrong"), "the same program"
        return ("consistent" if forged and not trusted else "wrong"), ""
    except (DamagedError, FutureError, ForeignError, SealError) as error:
        if tracemalloc.get_traced_memory()[1] - start > MEMORY:
            return "memory", str(error)
        said = str(error)
        found = any(word in said for word in ("at byte", "section", "looks like", "version", "takes a mace-cl"))
        found = found or (isinstance(error, SealError) and any(w in said for w in ("signed", "is encrypted with")))
        return ("named" if found and path.name in said else "nameless"), said
    except MaceClError as error:
        return "nameless", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"


def _work(folder: Path) -> None:
    """A child: reads lines of (seed, kind, file), answers each with a line."""
    tracemalloc.start()
    hex_key = (folder / "key.hex").read_text()
    data = {name: (folder / f"{name}.bin").read_bytes() for name in FILES}
    files = {name: scan(content) for name, content in data.items()}
    path = folder / f"damaged-{os.getpid()}.bin"
    for line in sys.stdin:
        seed, kind, name = json.loads(line)
        damaged = KINDS[kind](random.Random(f"{seed} {kind} {name}"), data[name], files[name])
        if damaged == data[name]:
            answer = ("unchanged", "")
        else:
            path.write_bytes(damaged)
            trusted = (hex_key,) if name == "trusted" else ()
            key = KEY if name == "encrypted" else None
            answer = outcome(path, data[name], key, trusted, KINDS[kind] in FORGED)
        print(json.dumps([*answer, _most_mebibytes()]), flush=True)


def _most_mebibytes() -> int:
    """The most memory that this process took; ``ru_maxrss`` would count the one that started it, too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) >> 10


# ---- all of them ----


class Report:
    """How often each outcome was seen, by file and kind of damage; and examples of the bad ones."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.bad: list[str] = []
        self.seconds = 0.0
        self.mebibytes = 0

    @property
    def files(self) -> int:
        return sum(count for (_, _, result), count in self.counts.items() if result != "unchanged")

    def total(self, result: str, file: str = "") -> int:
        return sum(n for (name, _, found), n in self.counts.items() if found == result and file in ("", name))

    def add(self, seed: int, kind: str, file: str, result: str, said: str) -> None:
        self.counts[file, kind, result] += 1
        if result in BAD or (result in ("same", "consistent") and file == "trusted"):
            self.bad.append(f"{result}: seed {seed}, {kind} of the {file} file: {said}")

    def lines(self) -> Iterator[str]:
        results = ("named", "same", "consistent", *BAD)
        yield f"{'file':<10} {'damage':<17}" + "".join(f"{result:>11}" for result in results)
        for name in FILES:
            for kind in KINDS:
                row = [self.counts[name, kind, result] for result in results]
                yield f"{name:<10} {kind:<17}" + "".join(f"{count:>11}" for count in row)
        yield f"{'all':<28}" + "".join(f"{self.total(result):>11}" for result in results)
        yield f"{self.files} damaged files in {self.seconds:.0f} s; at most {self.mebibytes} MiB in a process"


class _Child:
    """A process that reads damaged files; another takes its place when it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__)), "--child", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mebibytes = 0

    def ask(self, question: tuple[int, str, str]) -> tuple[str, str]:
        """(outcome, what was said); `mebibytes` is then the most memory that the process ever took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return "died", f"exit code {self._process.wait()}"
        if not select.select([self._process.stdout], [], [], SECONDS * (10 if question[0] == 0 else 1))[0]:
            return "hung", ""
        line = self._process.stdout.readline()
        if not line:
            return "died", f"exit code {self._process.wait()}"
        result, said, self.mebibytes = json.loads(line)
        return result, said

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def torture(files: int, progress: Callable[[str], object] = lambda _: None) -> Report:
    """Damages ``files`` files, evenly over all kinds, and reads each; the same ones every time."""
    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = keygen(folder / "key")
        (folder / "key.hex").write_text(pair.hex)
        program = everything()
        for file in FILES:
            write(program, folder / f"{file}.bin", key=KEY if file == "encrypted" else None)
            if file in ("signed", "trusted"):
                sign(folder / f"{file}.bin", pair.private)
        child = _Child(folder)
        try:
            seed = 0
            while report.files < files:
                for kind in KINDS:
                    for file in FILES:
                        result, said = child.ask((seed, kind, file))
                        report.add(seed, kind, file, result, said)
                        report.mebibytes = max(report.mebibytes, child.mebibytes)
                        if result in ("died", "hung"):
                            child.end()
                            child = _Child(folder)
                seed += 1
                progress(f"{report.files} of {files}")
        finally:
            child.end()
    report.seconds = time.monotonic() - start
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20000, help="how many damaged files (default %(default)s)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _work(options.child)
        return 0
    report = torture(options.files)
    print("\n".join(report.lines()))
    print("\n".join(report.bad[:20]))
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
