"""Choice, identity and quirks of devices, and the search for drivers, on made-up machines."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyopencl
import pytest

from mace_cl.device import (
    Device,
    Signature,
    block_for,
    choose,
    discover,
    discovery,
    drivers,
    find,
    find_same,
    quirk_for,
)
from mace_cl.device.drivers import Driver, DriverError
from mace_cl.errors import DeviceError


def a_device(runtime: str, kind: str = "cpu", **changes: object) -> Device:
    device = Device(
        index=0,
        runtime=runtime,
        platform=f"Platform {runtime}",
        name=f"Chip {runtime}",
        usable=True,
        reason="runs and compiles programs",
        can_compile=True,
        kind=kind,
        vector_width=16,
    )
    return dataclasses.replace(device, **changes)  # type: ignore[arg-type]


def listing(*devices: Device) -> tuple[Device, ...]:
    return tuple(dataclasses.replace(device, index=index) for index, device in enumerate(devices))


ALL = listing(
    a_device("oclgrind"),
    a_device("pocl-3.0"),
    a_device("rusticl"),
    a_device("pocl-3.1"),
    a_device("intel"),
    a_device("nvidia", "gpu"),
)


class TestChoose:
    def test_order_of_preference(self) -> None:
        left = list(ALL)
        order = []
        while len(left) > 1:
            best = choose(None, left)
            order.append(best.runtime)
            left.remove(best)
        assert order == ["nvidia", "intel", "pocl-3.1", "pocl-3.0", "rusticl"]

    def test_oclgrind_is_never_the_default(self) -> None:
        for spec in (None, "cpu"):
            with pytest.raises(DeviceError, match="No OpenCL device"):
                choose(spec, ALL[:1])
        assert choose("oclgrind", ALL).runtime == "oclgrind"

    @pytest.mark.parametrize(
        ("spec", "runtime"),
        [
            ("0", "oclgrind"),
            ("3", "pocl-3.1"),
            ("cpu", "intel"),
            ("GPU", "nvidia"),
            ("pocl", "pocl-3.1"),
            ("PoCL-3.0", "pocl-3.0"),
            ("intel", "intel"),
            ("platform pocl", "pocl-3.1"),
            ("chip RUST", "rusticl"),
        ],
    )
    def test_specification(self, spec: str, runtime: str) -> None:
        assert choose(spec, ALL).runtime == runtime

    def test_one_that_compiles_is_better(self) -> None:
        gpu = a_device("nvidia", "gpu", can_compile=False)
        assert choose(None, [gpu, a_device("pocl-3.0")]).runtime == "pocl-3.0"
        assert choose("gpu", [gpu, a_device("pocl-3.0")]) == gpu
        assert choose(None, [gpu]) == gpu

    def test_unusable_is_never_chosen(self) -> None:
        broken = a_device("intel", usable=False, reason="can't be used: libimf.so is missing")
        assert choose(None, [broken, a_device("pocl-3.0")]).runtime == "pocl-3.0"
        for spec in ("intel", "0", None):
            with pytest.raises(DeviceError, match=r"libimf\.so is missing"):
                choose(spec, [broken])

    def test_name_of_a_runtime_does_not_mean_a_processor_of_that_make(self) -> None:
        with pytest.raises(DeviceError, match="fits 'intel'"):
            choose("intel", [a_device("pocl-3.1", name="pthread-Intel(R) Xeon(R)")])
        assert choose("xeon", [a_device("pocl-3.1", name="pthread-Intel(R) Xeon(R)")]).runtime == "pocl-3.1"

    def test_no_device_says_what_to_install(self) -> None:
        with pytest.raises(DeviceError, match=r'No OpenCL driver.*pip install "mace-cl\[cpu\]"'):
            choose(None, [])

    @pytest.mark.parametrize("spec", ["gpu", "17", "pocl-9.9", "nothing like it"])
    def test_none_that_fits_lists_what_exists(self, spec: str) -> None:
        with pytest.raises(DeviceError, match=rf"fits '{spec}'.*0: pocl-3\.1 \(cpu, Chip pocl-3\.1\)"):
            choose(spec, [a_device("pocl-3.1")])


class TestSignature:
    device = a_device("pocl-3.1", driver="3.1", version="OpenCL 3.0 PoCL", base_align=128, vendor="V")

    def test_equal_devices_have_equal_signatures(self) -> None:
        other = dataclasses.replace(self.device, index=5, handle=None)
        assert other.signature == self.device.signature
        assert other.signature.digest() == self.device.signature.digest()
        assert other.signature.differences(self.device.signature) == ()

    @pytest.mark.parametrize(
        ("field", "name", "value"),
        [
            ("vendor", "vendor", "W"),
            ("name", "device", "Chip 2"),
            ("driver", "driver", "3.2"),
            ("platform", "platform", "P"),
            ("platform_version", "platform_version", "4"),
            ("version", "device_version", "OpenCL 3.0 Adreno 740"),
            ("c_version", "c_version", "OpenCL C 2.0"),
            ("vector_width", "vector_width", 8),
            ("base_align", "base_align", 64),
            ("local_bytes", "local_bytes", 1),
            ("max_work_group", "max_work_group", 7),
            ("address_bits", "address_bits", 32),
        ],
    )
    def test_each_part_counts(self, field: str, name: str, value: object) -> None:
        other = dataclasses.replace(self.device, **{field: value})  # type: ignore[arg-type]
        (difference,) = self.device.signature.differences(other.signature)
        assert difference.startswith(f"{name}: ")
        assert difference.endswith(f"{str(value)!r} there")
        assert other.signature.digest() != self.device.signature.digest()

    def test_a_property_that_only_one_side_has(self) -> None:
        one, two = Signature(*"abcdefg"), dataclasses.replace(Signature(*"abcdefg"), properties=(("warp", "32"),))
        assert one.differences(two) == ("warp: 'absent' here, '32' there",)
        assert two.differences(one) == ("warp: '32' here, 'absent' there",)

    def test_digest_is_fixed_and_unambiguous(self) -> None:
        assert dataclasses.replace(Signature(*"abcdefg"), properties=(("x", "1"),)).digest() == (
            "99f6ef3d401681b27bb0cbdf4814f7a7c9d320ad22494144a3a4970e613b551f"
        )
        assert Signature("a,b", "", *"cdefg").digest() != Signature("a", "b", *"cdefg").digest()

    def test_properties_are_sorted(self) -> None:
        names = [name for name, _ in self.device.signature.properties]
        assert names == sorted(names)


class TestQuirks:
    @pytest.mark.parametrize(
        ("runtime", "kind", "width", "block"),
        [
            ("pocl-3.1", "cpu", 16, 16),
            ("pocl-3.1", "cpu", 8, 8),
            ("pocl-3.0", "cpu", 16, 8),
            ("intel", "cpu", 16, 16),
            ("intel", "cpu", 1, 4),
            ("something", "cpu", 64, 16),
            ("something", "cpu", 12, 8),
            ("nvidia", "gpu", 1, 4),
            ("adreno", "gpu", 16, 4),
            ("oclgrind", "cpu", 1, 4),
        ],
    )
    def test_block(self, runtime: str, kind: str, width: int, block: int) -> None:
        assert block_for(a_device(runtime, kind, vector_width=width)) == block

    def test_a_version_does_not_match_the_beginning_of_another(self) -> None:
        assert quirk_for(a_device("pocl-3.01")).runtime == "pocl"
        assert quirk_for(a_device("poclish")).runtime == ""

    def test_when_binaries_are_complete(self) -> None:
        assert quirk_for(a_device("pocl-3.0")).binary_after_first_run
        assert quirk_for(a_device("pocl-6.0")).binary_after_first_run
        assert not quirk_for(a_device("intel")).binary_after_first_run


class TestFind:
    """`find` on a machine with three drivers; ``loaded`` says which it touched."""

    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        loaded: list[str] = []
        machine = {
            "libpocl-a.so": a_device("pocl-3.0"),
            "libpocl-b.so": a_device("pocl-3.1"),
            "libintelocl.so": a_device("intel"),
            "libstrange.so": a_device("strange"),
        }
        listed = [Driver("pocl-3.0", "libpocl-a.so"), Driver("pocl", "libpocl-b.so")]
        listed += [Driver("intel", "libintelocl.so"), Driver("", "libstrange.so")]

        def devices_of(driver: Driver, known: object, *, alone: bool = False) -> list[Device]:
            loaded.append(driver.library + " alone" * alone)
            return [machine[driver.library]]

        monkeypatch.setattr(drivers, "installed", lambda: tuple(listed))
        monkeypatch.setattr(discovery, "_devices_of", devices_of)
        monkeypatch.setattr(discovery, "_from_loader", lambda known: [])
        return loaded

    @pytest.mark.parametrize(
        ("spec", "runtime", "libraries"),
        [
            (None, "intel", ["libstrange.so alone", "libintelocl.so"]),
            ("cpu", "intel", ["libstrange.so alone", "libintelocl.so"]),
            ("intel", "intel", ["libintelocl.so alone"]),
            ("pocl-3.0", "pocl-3.0", ["libpocl-a.so alone"]),
            ("pocl-3.1", "pocl-3.1", ["libpocl-b.so alone"]),
            ("pocl", "pocl-3.1", ["libpocl-b.so alone"]),
        ],
    )
    def test_loads_no_more_than_it_must(
        self, loaded: list[str], spec: str | None, runtime: str, libraries: list[str]
    ) -> None:
        assert find(spec, alone=True).runtime == runtime
        assert loaded == libraries

    def test_agrees_with_choose(self, loaded: list[str]) -> None:
        for spec in (None, "cpu", "pocl", "pocl-3.0", "strange", "chip", "0", "2"):
            assert find(spec).runtime == choose(spec, discover()).runtime

    def test_the_same_in_another_process(self, loaded: list[str]) -> None:
        wanted = a_device("pocl-3.1").signature.digest()
        assert find_same("pocl-3.1", wanted).runtime == "pocl-3.1"
        assert loaded == ["libpocl-b.so alone"]
        with pytest.raises(DeviceError, match=r"'pocl-3\.0' does not answer"):
            find_same("pocl-3.0", a_device("pocl-3.0", driver="other").signature.digest())

    def test_the_second_of_two_devices_of_one_runtime(self, monkeypatch: pytest.MonkeyPatch, loaded: list[str]) -> None:
        two = [a_device("nvidia", "gpu", name=name) for name in ("Big", "Small")]
        monkeypatch.setattr(drivers, "installed", lambda: (Driver("nvidia", "libnvidia-opencl.so"),))
        monkeypatch.setattr(discovery, "_devices_of", lambda driver, known, *, alone=False: two)
        for device in two:
            assert find_same("nvidia", device.signature.digest()) == device

    def test_nothing_fits(self, loaded: list[str]) -> None:
        with pytest.raises(DeviceError, match="fits 'gpu'"):
            find("gpu")

    def test_no_driver_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drivers, "installed", lambda: ())
        monkeypatch.setattr(discovery, "_from_loader", lambda known: [])
        with pytest.raises(DeviceError, match="No OpenCL driver was found"):
            find()


class TestWhatAMachineHas:
    """`drivers.installed` reads files only; each test lays out some."""

    @pytest.fixture
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        site = tmp_path / "venv/lib/python3.11/site-packages"
        (site / "pyopencl/.libs").mkdir(parents=True)
        (tmp_path / "vendors").mkdir()
        monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "target"), "relative"])
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setattr(drivers, "_VENDORS", str(tmp_path / "vendors"))
        monkeypatch.delenv("OCL_ICD_VENDORS", raising=False)
        monkeypatch.delenv("OPENCL_VENDOR_PATH", raising=False)
        return tmp_path

    @staticmethod
    def touch(path: Path, text: str = "") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def test_nothing(self, machine: Path) -> None:
        assert drivers.installed() == ()

    def test_missing_directory_of_vendors(self, machine: Path) -> None:
        (machine / "vendors").rmdir()
        assert drivers.installed() == ()

    def test_pocl_beside_pyopencl(self, machine: Path) -> None:
        site = machine / "venv/lib/python3.11/site-packages"
        self.touch(site / "pyopencl/.libs/pocl.icd", "libpocl-1.so")
        library = self.touch(site / "pyopencl/.libs/libpocl-1.so")
        assert drivers.installed() == (Driver("pocl", str(library)),)
        (site / "pocl_binary_distribution-3.0.dist-info").mkdir()
        assert drivers.installed() == (Driver("pocl-3.0", str(library)),)

    @pytest.mark.parametrize("folder", ["venv/lib", "target/lib"])
    def test_intel_in_an_environment_or_a_target_directory(self, machine: Path, folder: str) -> None:
        library = self.touch(machine / folder / "libintelocl.so")
        assert drivers.installed() == (Driver("intel", str(library)),)

    def test_system_drivers(self, machine: Path) -> None:
        self.touch(machine / "vendors/a.icd", "libnvidia-opencl.so.1\n")
        self.touch(machine / "vendors/b.icd", f"{machine}/gone.so\n")
        self.touch(machine / "vendors/c.icd", f"{self.touch(machine / 'libpocl.so.2')}\n\n")
        self.touch(machine / "vendors/empty.icd")
        self.touch(machine / "vendors/zero.icd", "a\0b")
        self.touch(machine / "vendors/notes.txt", "libx.so")
        (machine / "vendors/folder.icd").mkdir()
        assert drivers.installed() == (
            Driver("nvidia", "libnvidia-opencl.so.1"),
            Driver("pocl", str(machine / "libpocl.so.2")),
        )

    def test_the_loaders_own_variables_are_followed(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.touch(machine / "vendors/a.icd", "libsystem.so")
        self.touch(machine / "mine/a.icd", "libmine.so")
        monkeypatch.setenv("OPENCL_VENDOR_PATH", str(machine / "mine"))
        assert drivers.installed() == (Driver("", "libmine.so"),)
        monkeypatch.setenv("OCL_ICD_VENDORS", str(machine / "vendors/a.icd"))
        assert drivers.installed() == (Driver("", "libsystem.so"),)
        monkeypatch.setenv("OCL_ICD_VENDORS", "librusticlopencl.so.1")
        assert drivers.installed() == (Driver("rusticl", "librusticlopencl.so.1"),)

    def test_oclgrind_beside_its_command(self, machine: Path) -> None:
        self.touch(machine / "bin/oclgrind")
        library = self.touch(machine / "lib/oclgrind/liboclgrind-rt-icd.so")
        assert drivers.installed() == (Driver("oclgrind", str(library)),)

    def test_the_same_library_listed_twice(self, machine: Path) -> None:
        library = self.touch(machine / "venv/lib/libintelocl.so")
        self.touch(machine / "vendors/intel.icd", str(library))
        assert drivers.installed() == (Driver("intel", str(library)),)

    def test_other_systems_are_left_to_the_loader(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.touch(machine / "vendors/a.icd", "libsystem.so")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert drivers.installed() == ()


class TestBadDrivers:
    def test_library_that_is_missing(self) -> None:
        with pytest.raises(DriverError, match=r"can't be loaded: libnothere\.so"):
            drivers.platforms(Driver("", "libnothere.so"))

    def test_file_that_is_no_library(self, tmp_path: Path) -> None:
        (tmp_path / "x.so").write_bytes(b"not an ELF file")
        with pytest.raises(DriverError, match="can't be loaded"):
            drivers.platforms(Driver("", str(tmp_path / "x.so")))

    def test_library_that_is_no_driver(self) -> None:
        with pytest.raises(DriverError, match="not an OpenCL driver"):
            drivers.platforms(Driver("", ctypes.util.find_library("c") or "libc.so.6"))

    @pytest.mark.parametrize(("offered", "message"), [(False, "cl_khr_icd"), (True, "has no platform .*-1001")])
    def test_driver_without_platforms(self, monkeypatch: pytest.MonkeyPatch, offered: bool, message: str) -> None:
        get_ids = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: -1001)
        address = ctypes.cast(get_ids, ctypes.c_void_p).value if offered else None

        class Lookup:
            def __call__(self, name: bytes) -> int | None:
                return address

        monkeypatch.setattr(ctypes, "CDLL", lambda library: SimpleNamespace(clGetExtensionFunctionAddress=Lookup()))
        with pytest.raises(DriverError, match=message):
            drivers.platforms(Driver("", "x"))

    @pytest.mark.parametrize(("first", "answer"), [(0x4F50454E434C3331, True), (0x7F0000000000, False), (0, False)])
    def test_platforms_that_only_a_loader_can_prepare(self, first: int, answer: bool) -> None:
        table = (ctypes.c_size_t * 2)(first)
        platform = (ctypes.c_size_t * 2)(ctypes.addressof(table))
        assert drivers._needs_its_loader(ctypes.addressof(platform)) is answer

    def test_are_listed_with_the_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drivers, "installed", lambda: (Driver("intel", "/x/libnothere.so"),))
        monkeypatch.setattr(discovery, "_from_loader", lambda known: [])
        (device,) = discover()
        assert (device.runtime, device.usable, device.can_compile) == ("intel", False, False)
        assert "libnothere.so" in device.reason
        assert "intel-cmplr-lib-rt" in device.reason

    def test_the_environment_is_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OCL_ICD_VENDORS", "before")
        monkeypatch.delenv("PYOPENCL_HOME", raising=False)
        with drivers._loader_limited_to("x.so"):
            assert os.environ["OCL_ICD_VENDORS"] == "x.so"
            assert "PYOPENCL_HOME" in os.environ
        assert os.environ["OCL_ICD_VENDORS"] == "before"
        assert "PYOPENCL_HOME" not in os.environ


class FakeHandle(SimpleNamespace):
    """Answers like a `pyopencl.Device`; a value that is an exception is raised."""

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if isinstance(value, Exception):
            raise value
        return value


def a_handle(**changes: object) -> FakeHandle:
    ones = (
        "address_bits",
        "available",
        "compiler_available",
        "endian_little",
        "global_mem_cache_size",
        "global_mem_size",
        "image_max_buffer_size",
        "image_support",
        "local_mem_size",
        "local_mem_type",
        "max_compute_units",
        "max_mem_alloc_size",
        "max_work_group_size",
        "native_vector_width_float",
        "single_fp_config",
    )
    values: dict[str, object] = dict.fromkeys(ones, 1)
    values |= {"type": 2, "mem_base_addr_align": 1024, "name": " Chip\0", "vendor": "V", "extensions": "b a"}
    values |= {"driver_version": "1", "version": "OpenCL 3.0", "opencl_c_version": "OpenCL C 1.2 x"}
    return FakeHandle(**(values | changes))


class TestDescribing:
    @staticmethod
    def describe(name: str = "NVIDIA CUDA", version: str = "OpenCL 3.0", **changes: Any) -> Device:
        platform = SimpleNamespace(name=name, version=version, get_devices=lambda: [a_handle(**changes)])
        (device,) = discovery._devices_on(platform)  # type: ignore[arg-type]
        return device

    def test_values(self) -> None:
        device = self.describe()
        assert (device.usable, device.can_compile, device.name, device.base_align) == (True, True, "Chip", 128)
        assert device.extensions == ("a", "b")
        assert (device.local_dedicated, device.image_texels) == (True, 1)

    @pytest.mark.parametrize(
        ("changes", "wanted"),
        [
            ({"local_mem_type": 2}, (False, 1)),
            ({"image_support": 0}, (True, 0)),
            ({"image_max_buffer_size": pyopencl.LogicError("clGetDeviceInfo", -30)}, (True, 0)),
            ({"local_mem_type": pyopencl.LogicError("clGetDeviceInfo", -30)}, (False, 1)),
        ],
    )
    def test_what_a_driver_does_not_tell_is_not_there(self, changes: Any, wanted: tuple[bool, int]) -> None:
        device = self.describe(**changes)
        assert device.usable
        assert (device.local_dedicated, device.image_texels) == wanted

    def test_pocl_makes_no_images_of_buffers(self) -> None:
        assert self.describe("Portable Computing Language", "OpenCL 3.0 pocl 3.1").image_texels == 0

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"available": 0}, "not available"),
            ({"endian_little": 0}, "big-endian"),
            ({"single_fp_config": 0}, "no 32-bit floating point"),
            ({"opencl_c_version": "OpenCL C 1.1"}, "OpenCL C 1.1, and OpenCL C 1.2 is needed"),
            ({"opencl_c_version": ""}, "no version of OpenCL C"),
            ({"vendor": pyopencl.LogicError("clGetDeviceInfo", -33)}, "its driver failed"),
            ({"vendor": UnicodeDecodeError("utf-8", b"", 0, 1, "")}, "its driver failed"),
        ],
    )
    def test_unusable(self, changes: dict[str, Any], words: str) -> None:
        device = self.describe(**changes)
        assert not device.usable
        assert not device.can_compile
        assert words in device.reason

    def test_without_compiler(self) -> None:
        device = self.describe(compiler_available=0)
        assert (device.usable, device.can_compile) == (True, False)
        assert "no compiler" in device.reason

    def test_pocl_without_linker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pocl = ("Portable Computing Language", "OpenCL 3.0 PoCL 3.0-rc2  Linux")
        monkeypatch.setenv("PATH", str(tmp_path))
        device = self.describe(*pocl)
        assert (device.runtime, device.usable, device.can_compile) == ("pocl-3.0", True, False)
        assert "apt install binutils" in device.reason
        assert self.describe("Intel(R) OpenCL").can_compile
        (tmp_path / "ld").touch(mode=0o755)
        assert self.describe(*pocl).can_compile

    def test_platform_that_fails(self) -> None:
        def fail() -> None:
            raise pyopencl.LogicError("clGetDeviceIDs", -1)

        platform = SimpleNamespace(name="NVIDIA CUDA", version="3", get_devices=fail)
        (device,) = discovery._devices_on(platform)  # type: ignore[arg-type]
        assert (device.runtime, device.usable) == ("nvidia", False)
        assert "its driver failed" in device.reason

    @pytest.mark.parametrize(
        ("name", "version", "runtime"),
        [
            ("Portable Computing Language", "OpenCL 3.0 PoCL 3.1+debian  Linux", "pocl-3.1"),
            ("Portable Computing Language", "OpenCL 1.2 pocl 1.8  None", "pocl-1.8"),
            ("Portable Computing Language", "?", "pocl"),
            ("Intel(R) OpenCL", "OpenCL 3.1 LINUX", "intel"),
            ("Intel(R) OpenCL Graphics", "OpenCL 3.0", "neo"),
            ("Intel(R) OpenCL HD Graphics", "OpenCL 3.0", "neo"),
            ("Intel(R) FPGA Emulation Platform for OpenCL(TM)", "1.2", "fpga"),
            ("NVIDIA CUDA", "OpenCL 3.0 CUDA 12", "nvidia"),
            ("Some New (TM) Thing", "1.2", "some-new-tm-thing"),
            ("", "", "unknown"),
        ],
    )
    def test_runtime(self, name: str, version: str, runtime: str) -> None:
        assert self.describe(name, version).runtime == runtime

    @pytest.mark.parametrize(
        ("bits", "kind"), [(2, "cpu"), (3, "cpu"), (4, "gpu"), (8, "accelerator"), (15, "cpu"), (16, "other")]
    )
    def test_kind(self, bits: int, kind: str) -> None:
        assert self.describe(type=bits).kind == kind

    def test_a_gpu_of_intels_older_platform(self) -> None:
        device = self.describe("Intel(R) OpenCL", type=4)
        assert device.runtime == "neo"
        assert block_for(device) == 4


def test_general_variants_are_asked_for_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCL_WORK_GROUP_SPECIALIZATION", "1")
    with drivers.general_variants():
        assert os.environ["POCL_WORK_GROUP_SPECIALIZATION"] == "0"
    assert os.environ["POCL_WORK_GROUP_SPECIALIZATION"] == "1"


def test_threads_are_kept_on_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POCL_AFFINITY", raising=False)
    monkeypatch.delenv("POCL_MAX_PTHREAD_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with drivers.one_thread_per_core():
        assert os.environ["POCL_AFFINITY"] == "1"
    assert "POCL_AFFINITY" not in os.environ
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with drivers.one_thread_per_core():
        assert "POCL_AFFINITY" not in os.environ
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("POCL_AFFINITY", "0")
    with drivers.one_thread_per_core():
        assert os.environ["POCL_AFFINITY"] == "0"
