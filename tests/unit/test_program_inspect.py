"""What `inspect` tells is what is in the file."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import pytest
from google.protobuf import text_format

from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import Opened, open_program, read
from mace_cl.program.inspect import summary, text

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
SAMPLE = read(GOLDEN)


@pytest.fixture
def opened() -> Opened:
    return open_program(GOLDEN)


def test_summary(opened: Opened) -> None:
    data = GOLDEN.read_bytes()
    seen = summary(opened)
    assert (seen.file, seen.format_version, seen.kernel_count) == (str(GOLDEN), 3, 4)
    assert (seen.file_bytes, seen.crc32) == (len(data), f"{zlib.crc32(data):08x}")
    assert (seen.producer, seen.model, seen.options) == (SAMPLE.producer, SAMPLE.model, SAMPLE.options)
    assert seen.section_bytes == {"source": 32 + 26, "binary": 17 + 13, "constants": 5000}
    for section in seen.sections:
        assert f"{zlib.crc32(data[section.offset : section.offset + section.length]):08x}" == section.crc32
    first, second = seen.targets
    assert first.signature == SAMPLE.targets[0].signature
    assert (first.launches, first.units, first.units_with_binary, first.binary_bytes) == (2, 2, 2, 30)
    assert (second.units_with_binary, second.binary_bytes, second.source_bytes) == (1, 13, 58)
    assert (first.arena_bytes, first.constant_bytes, first.constants_inside) == (8192, 5000, True)
    assert (first.inputs[0].name, first.outputs[0].shape) == ("image", (1, 10))
    kernel = first.kernels[1]
    assert (kernel.name, kernel.family, kernel.parameters, kernel.unit, kernel.launches) == ("pool_1", "pool", (), 1, 1)
    assert (kernel.source_bytes, kernel.source_sha256) == (26, seen.sections[1].sha256)
    assert first.provenance == (("tuning", "default parameters"),)


def test_summary_as_json(opened: Opened) -> None:
    seen = json.loads(json.dumps(asdict(summary(opened))))
    assert seen["targets"][0]["signature"]["driver"] == "3.1"
    assert seen["targets"][0]["kernels"][0]["parameters"] == [["tile", 28], ["rows", -1]]


def test_text_is_readable_and_complete(opened: Opened, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN.with_suffix(".bin.pb")
    written = text(opened)
    if request.config.getoption("--update-golden", False):
        golden.write_text(written, encoding="utf-8")
    assert written == golden.read_text(encoding="utf-8")
    assert text_format.Parse(written, pb.Manifest()) == opened.manifest


def test_a_kind_of_section_that_is_not_known(opened: Opened) -> None:
    opened.manifest.sections[0].kind = 77  # type: ignore[assignment]
    assert summary(opened).sections[0].kind == "77"
