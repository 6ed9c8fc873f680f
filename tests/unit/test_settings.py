"""Settings: the order of their sources, and every value that is refused."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mace_cl.errors import SettingsError
from mace_cl.settings import Settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MACE_CL_STORE_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "config" / "mace-cl" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_defaults(config: Path, tmp_path: Path) -> None:
    settings = Settings.load()
    assert settings.device is None
    assert settings.store is True
    assert settings.store_dir == tmp_path / "cache" / "mace-cl"
    assert 1 <= settings.jobs <= 4


def test_argument_beats_environment_beats_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('device = "file"\njobs = 7\nstore = false\nstore_dir = "/from/file"\n')
    monkeypatch.setenv("MACE_CL_DEVICE", "environment")
    monkeypatch.setenv("MACE_CL_JOBS", "5")
    assert Settings.load(device="argument") == Settings("argument", False, Path("/from/file"), 5)


def test_environment_alone(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "gpu", "STORE": "off", "STORE_DIR": "/x", "JOBS": "3"}.items():
        monkeypatch.setenv(f"MACE_CL_{name}", value)
    assert Settings.load() == Settings("gpu", False, Path("/x"), 3)


def test_empty_environment_variable_is_not_given(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CL_DEVICE", "")
    assert Settings.load().device is None


def test_false_argument_is_given(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CL_STORE", "1")
    assert Settings.load(store=False).store is False


def test_store_dir_is_absolute_and_knows_home(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/someone")
    assert Settings.load(store_dir="~/programs").store_dir == Path("/home/of/someone/programs")
    assert Settings.load(store_dir="here").store_dir == Path.cwd() / "here"


def test_settings_are_frozen(config: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings.load().jobs = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [("JOBS", "0"), ("JOBS", "-1"), ("JOBS", "many"), ("JOBS", "1.5"), ("STORE", "maybe"), ("DEVICE", "  ")],
)
def test_bad_environment_names_the_variable(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MACE_CL_{name}", value)
    with pytest.raises(SettingsError, match=f"MACE_CL_{name} is '{value}', but must be"):
        Settings.load()


@pytest.mark.parametrize(
    "line", ["jobs = true", "jobs = 1.0", "store = 1", "store_dir = 3", 'store_dir = ""', "device = 0"]
)
def test_bad_type_in_file_names_file_and_key(config: Path, line: str) -> None:
    config.write_text(line)
    with pytest.raises(SettingsError, match=rf"config\.toml: {line.split()[0]} is .*, but must be"):
        Settings.load()


def test_bad_argument_names_it(config: Path) -> None:
    with pytest.raises(SettingsError, match="The argument jobs is 0, but must be a whole number of at least 1"):
        Settings.load(jobs=0)


def test_unknown_key_names_the_nearest(config: Path) -> None:
    config.write_text('devcie = "gpu"')
    with pytest.raises(SettingsError, match="unknown key 'devcie'; did you mean 'device'"):
        Settings.load()


def test_file_that_is_not_toml(config: Path) -> None:
    config.write_text("device gpu")
    with pytest.raises(SettingsError, match=r"config\.toml is not valid TOML: .*line 1"):
        Settings.load()


def test_file_that_is_not_text(config: Path) -> None:
    config.write_bytes(b"device = '\xff'")
    with pytest.raises(SettingsError, match=r"config\.toml can't be read"):
        Settings.load()


def test_file_that_is_a_directory(config: Path) -> None:
    config.mkdir()
    with pytest.raises(SettingsError, match=r"config\.toml can't be read"):
        Settings.load()


def test_import_is_light() -> None:
    heavy = {"numpy", "pyopencl", "onnx", "platformdirs", "tomllib", "tomli", "difflib", "typer"}
    code = f"import sys, mace_cl.settings; print(sorted({heavy!r} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_store_budget_is_a_size(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().store_budget == 2 << 30
    for text, size in {"0": 0, "1000": 1000, "500MB": 500 * 10**6, "3 GiB": 3 << 30, "7kib": 7168}.items():
        monkeypatch.setenv("MACE_CL_STORE_BUDGET", text)
        assert Settings.load().store_budget == size
    assert Settings.load(store_budget=5).store_budget == 5
    for bad in ("much", "-1", "1.5GB", "3 XB"):
        monkeypatch.setenv("MACE_CL_STORE_BUDGET", bad)
        with pytest.raises(SettingsError, match=r"MACE_CL_STORE_BUDGET is .*, but must be a size such as 500MB"):
            Settings.load()


def test_trusted_keys(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().trusted_keys == ()
    config.write_text('trusted_keys = ["/a/key.pub", "ab"]\n')
    assert Settings.load().trusted_keys == ("/a/key.pub", "ab")
    monkeypatch.setenv("MACE_CL_TRUSTED_KEYS", os.pathsep.join(("c", "d")))
    assert Settings.load().trusted_keys == ("c", "d")
    assert Settings.load(trusted_keys=[Path("e")]).trusted_keys == ("e",)
    assert Settings.load(trusted_keys=()).trusted_keys == ()
    for bad in ([1], ["a", " "], 5):
        with pytest.raises(SettingsError, match=r"The argument trusted_keys is .* must list public keys"):
            Settings.load(trusted_keys=bad)  # type: ignore[arg-type]


def test_key_is_never_shown(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().key is None
    monkeypatch.setenv("MACE_CL_KEY", "0f" * 32)
    assert Settings.load().key == b"\x0f" * 32
    assert Settings.load(key=bytes(32)).key == bytes(32)
    assert callable(Settings.load(key=lambda: bytes(32)).key)
    assert "0f0f" not in repr(Settings.load())
    assert "x0f" not in repr(Settings.load())
    for bad in ("0f" * 31, "secret" * 11, bytes(31)):
        with pytest.raises(SettingsError, match="The argument key must be 64 hexadecimal digits") as caught:
            Settings.load(key=bad)
        assert str(bad) not in str(caught.value)
