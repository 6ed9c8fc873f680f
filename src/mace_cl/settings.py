"""One frozen `Settings`: argument, else environment, else configuration file, else default.

| setting      | environment          | in ``config.toml`` | default                                        |
|--------------|----------------------|--------------------|------------------------------------------------|
| device       | MACE_CL_DEVICE       | ``device``         | none: the best one, see `mace_cl.device`       |
| store        | MACE_CL_STORE        | ``store``          | true                                           |
| store_dir    | MACE_CL_STORE_DIR    | ``store_dir``      | the user's cache directory, ``mace-cl`` in it  |
| store_budget | MACE_CL_STORE_BUDGET | ``store_budget``   | "2GiB"                                         |
| jobs         | MACE_CL_JOBS         | ``jobs``           | the processors of this process, at most 4      |
| trusted_keys | MACE_CL_TRUSTED_KEYS | ``trusted_keys``   | none: signatures are not asked for             |
| key          | MACE_CL_KEY          | ``key``            | none: encrypted programs can't be read         |
| buckets      | MACE_CL_BUCKETS      | ``buckets``        | 8: sets of shapes kept of a model, per device  |
| reuse        | MACE_CL_REUSE        | ``reuse``          | "strict": another driver, another program      |
| guard        | MACE_CL_GUARD        | ``guard``          | true                                           |
| runtime      | MACE_CL_RUNTIME      | ``runtime``        | "gpu+cpu": OpenCL, and the host for the rest   |
| provider     | MACE_CL_PROVIDER     | ``provider``       | none: ONNX Runtime's CPU provider              |
| exact        | MACE_CL_EXACT        | ``exact``          | false: Winograd's method where it is faster    |
| queue_window | MACE_CL_QUEUE_WINDOW | ``queue_window``   | none: any number of kernels waits in the queue |
| kernel_limit | MACE_CL_KERNEL_LIMIT | ``kernel_limit``   | none: kernels are not cut, as long as they are |
| trust        | –                    | –                  | false: no code of a model's file is run        |

The configuration file is ``mace-cl/config.toml`` in the user's configuration directory
(``~/.config`` on Linux); it need not exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from mace_cl.errors import SettingsError
from mace_cl.record import record

__all__ = ["RUNTIMES", "STORE_BUDGET", "Settings", "environment"]

STORE_BUDGET = 2 << 30
"""Bytes that the store may take where nothing else is said."""

RUNTIMES = ("gpu+cpu", "gpu", "cpu", "npu")
"""What may run a model: OpenCL and, where that lacks a kernel, the host; OpenCL alone; the host alone; what the
provider takes on the provider, the rest as with the first."""

_MOST_JOBS = 4


@record
class Settings:
    """What a caller may choose about a run that is not part of the model.

    ``device`` is a device specification as `mace_cl.device.choose` reads it, or None for the best
    device.  ``store`` says whether compiled programs are kept in the directory ``store_dir``, which
    may take ``store_budget`` bytes; ``jobs`` is how many kernels are compiled at the same time, at
    least 1.  ``trusted_keys`` are public keys, each 64 hexadecimal digits or the path of a file: with
    any, only programs that one of them signed are used.  ``key`` decrypts programs: 32 bytes, or a
    function that gives them.  ``reuse`` says what becomes of a part that was made for this device under
    another driver: "strict" compiles anew, "same-gpu" keeps it if it still answers its golden vectors.
    ``guard`` tries binaries that are not yet proven on this device and driver in a child process first.
    ``runtime`` says what may run a model: one of `RUNTIMES`.  ``provider`` names the execution provider of
    ONNX Runtime that runs the host's part, such as "QNN" or "XNNPACK".  ``exact`` keeps
    to kernels that add products in the order of a plain convolution.  ``buckets`` is for how many sets of shapes a
    model with symbolic ones is kept compiled for a device, in a file and in memory.  ``queue_window`` is how many
    kernels may wait in a device's queue, and ``kernel_limit`` the ms after which one is cut: for devices that draw the
    screen as well, as MACE's ``opencl_queue_window_size`` and ``limit_opencl_kernel_time``.
    ``trust`` lets code run that a model's file holds; it is said for each call anew, never by the environment or the
    configuration.
    """

    device: str | None
    store: bool
    store_dir: Path
    jobs: int
    store_budget: int = STORE_BUDGET
    trusted_keys: tuple[str, ...] = ()
    key: bytes | Callable[[], bytes] | None = field(default=None, repr=False)
    reuse: str = "strict"
    guard: bool = True
    runtime: str = "gpu+cpu"
    provider: str | None = None
    exact: bool = False
    buckets: int = 8
    queue_window: int = 0
    kernel_limit: int = 0
    trust: bool = False

    @classmethod
    def load(
        cls,
        *,
        device: str | None = None,
        store: bool | None = None,
        store_dir: str | Path | None = None,
        jobs: int | None = None,
        store_budget: int | str | None = None,
        trusted_keys: Sequence[str | Path] | str | None = None,
        key: bytes | str | Callable[[], bytes] | None = None,
        reuse: str | None = None,
        guard: bool | None = None,
        runtime: str | None = None,
        provider: str | None = None,
        exact: bool | None = None,
        buckets: int | None = None,
        queue_window: int | None = None,
        kernel_limit: int | None = None,
        trust: bool | None = None,
    ) -> Settings:
        """Resolve every setting; an argument of None is one that was not given.

        ``store_budget`` may be text such as ``"500MB"``; several keys in one text are separated as
        directories are in PATH; ``key`` as text is 64 hexadecimal digits.

        Raises:
            SettingsError: a value has the wrong type or range, or the configuration file can't be
                read, is not TOML or has an unknown key.
        """
        arguments: dict[str, object] = {
            "device": device, "store": store, "store_dir": store_dir, "jobs": jobs,
            "store_budget": store_budget, "trusted_keys": trusted_keys, "key": key, "reuse": reuse, "guard": guard,
            "runtime": runtime, "provider": provider, "exact": exact, "buckets": buckets,
            "queue_window": queue_window, "kernel_limit": kernel_limit,
        }  # fmt: skip
        path = _config_path()
        config = _read_config(path)
        found: dict[str, Any] = {}
        for name, read in _READERS.items():
            variable = f"MACE_CL_{name.upper()}"
            if arguments.get(name) is not None:
                found[name] = read(arguments[name], f"The argument {name}")
            elif text := os.environ.get(variable):
                found[name] = read(text, f"The environment variable {variable}")
            elif name in config:
                found[name] = read(config[name], f"{path}: {name}")
        return cls(
            device=found.get("device"),
            store=found.get("store", True),
            store_dir=found.get("store_dir") or _cache_dir(),
            jobs=found.get("jobs") or min(_processors(), _MOST_JOBS),
            store_budget=found.get("store_budget", STORE_BUDGET),
            trusted_keys=found.get("trusted_keys", ()),
            key=found.get("key"),
            reuse=found.get("reuse", "strict"),
            guard=found.get("guard", True),
            runtime=found.get("runtime", RUNTIMES[0]),
            provider=found.get("provider"),
            exact=found.get("exact", False),
            buckets=found.get("buckets", cls.buckets),
            queue_window=found.get("queue_window", 0),
            kernel_limit=found.get("kernel_limit", 0),
            trust=bool(trust),
        )


def _text(value: object, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise SettingsError(f"{where} is {value!r}, but must be text such as 'gpu' or 'pocl'")


def _flag(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise SettingsError(f"{where} is {value!r}, but must be one of {', '.join(words)}")


def _directory(value: object, where: str) -> Path:
    if isinstance(value, (str, Path)) and str(value) and "\0" not in str(value):
        return Path(value).expanduser().absolute()
    raise SettingsError(f"{where} is {value!r}, but must be the path of a directory")


def _count(value: object, where: str) -> int:
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, int) and not isinstance(number, bool) and number >= 1:
        return number
    raise SettingsError(f"{where} is {value!r}, but must be a whole number of at least 1")


def _size(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (parts := re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", value.strip())):
        number, unit = parts.groups()
        if unit.lower() in _UNITS:
            return int(number) * _UNITS[unit.lower()]
    raise SettingsError(f"{where} is {value!r}, but must be a size such as 500MB or 2GiB")


def _keys(value: object, where: str) -> tuple[str, ...]:
    items = value.split(os.pathsep) if isinstance(value, str) else value
    if isinstance(items, Sequence) and all(isinstance(item, (str, Path)) and str(item).strip() for item in items):
        return tuple(str(item).strip() for item in items)
    raise SettingsError(f"{where} is {value!r}, but must list public keys: 64 hexadecimal digits or a file each")


def _secret(value: object, where: str) -> object:
    if callable(value) or (isinstance(value, bytes) and len(value) == 32):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{64}", value.strip()):
        return bytes.fromhex(value.strip())
    raise SettingsError(f"{where} must be 64 hexadecimal digits (32 bytes); `openssl rand -hex 32` makes a key")


def _reuse(value: object, where: str) -> str:
    if value in ("strict", "same-gpu"):
        return str(value)
    raise SettingsError(f"{where} is {value!r}, but must be 'strict' or 'same-gpu'")


def _runtime(value: object, where: str) -> str:
    if value in RUNTIMES:
        return str(value)
    raise SettingsError(f"{where} is {value!r}, but must be one of {', '.join(RUNTIMES)}")


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}

_READERS: Mapping[str, Callable[[object, str], object]] = {
    "device": _text,
    "store": _flag,
    "store_dir": _directory,
    "jobs": _count,
    "store_budget": _size,
    "trusted_keys": _keys,
    "key": _secret,
    "reuse": _reuse,
    "guard": _flag,
    "runtime": _runtime,
    "provider": _text,
    "exact": _flag,
    "buckets": _count,
    "queue_window": _count,
    "kernel_limit": _count,
}


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cache_dir() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("mace-cl", appauthor=False)


def _config_path() -> Path:
    import platformdirs

    return platformdirs.user_config_path("mace-cl", appauthor=False) / "config.toml"


def _read_config(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}; correct its permissions or remove it") from error
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}; correct that place") from error
    for key in values:
        if key not in _READERS:
            import difflib

            nearest = difflib.get_close_matches(key, _READERS, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"{path} has the unknown key {key!r}; did you mean {nearest!r}? The keys are {', '.join(_READERS)}"
            )
    return values


def environment() -> Mapping[str, str]:
    """The environment's variables, for files that ask for them by name."""
    return dict(os.environ)
