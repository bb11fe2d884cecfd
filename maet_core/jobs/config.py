"""The person's settings for jobs: how much of this machine they may use, and engines that are templates.

The file is `MAET_JOBS_CONFIG`, else `maet/jobs.yaml` in the user's configuration folder. It is never looked for in a workspace:
a workspace may come from somebody else, and an engine is a command that is run.
"""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from maet_core.errors import JobError

_SHIPPED = Path(__file__).with_name("engines.yaml")
_PROC, _DEV = Path("/proc"), Path("/dev")


@dataclass(frozen=True)
class Limits:
    """What jobs on this machine may use at once: `cpu_jobs` without a GPU, and these GPUs, by number."""

    cpu_jobs: int
    gpus: list[str]


@dataclass(frozen=True)
class Engine:
    """A cluster as commands. In each, `{name}`, `{script}`, … are filled in (docs/jobs.md lists them); no shell takes part.

    `status` prints one word; `waiting` and `running` say which words mean what, every other one means that the job is gone.
    """

    name: str
    script: str
    submit: str
    status: str
    cancel: str
    waiting: list[str]
    running: list[str]
    launch: str = ""
    launch_many: str = ""
    requeue: str = ""
    requeue_when: list[str] = field(default_factory=list)
    taken_back: str = ""
    taken_back_unless: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def config_file() -> Path:
    root = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get("MAET_JOBS_CONFIG") or root / "maet" / "jobs.yaml")


def local_limits() -> Limits:
    """From the configuration's `local`, else one CPU job for every four cores, and the GPUs that are visible here."""
    told = _section(_config(), "local", config_file())
    unknown = set(told) - {"cpu_jobs", "gpus"}
    cpu_jobs, gpus = told.get("cpu_jobs", max(1, (os.cpu_count() or 1) // 4)), told.get("gpus")
    if unknown or not isinstance(cpu_jobs, int) or cpu_jobs < 1 or not isinstance(gpus, (list, type(None))):
        raise JobError(f"{config_file()}: local: expected `cpu_jobs: NUMBER` and `gpus: [0, 1, …]`, found {told!r}")
    return Limits(cpu_jobs, [str(gpu) for gpu in gpus] if gpus is not None else visible_gpus())


def visible_gpus() -> list[str]:
    """The NVIDIA cards of this machine, without asking CUDA: CUDA_VISIBLE_DEVICES, else what the driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one.strip() for one in visible.split(",") if one.strip() and one.strip() != "-1"]
    found = list(_PROC.glob("driver/nvidia/gpus/*")) or list(
        _DEV.glob("nvidia[0-9]*")
    )  # a container may have no /proc of it
    return [str(number) for number, _ in enumerate(found)]


def engine(name: str) -> Engine:
    """A cluster engine: what is shipped under this name, with the person's settings. Raises JobError for one that is not there."""
    shipped, own = _read(_SHIPPED), _section(_config(), "engines", config_file())
    told = {**shipped.get(name, {}), **_section(own, name, config_file())}
    if not told:
        raise JobError(
            f"--engine: {name!r} is unknown; known: {', '.join(['local', *sorted({*shipped, *own})])}. {config_file()} can describe another"
        )
    settings = {**shipped.get(name, {}).get("settings", {}), **_section(told, "settings", config_file())}
    try:
        made = replace(
            Engine(name=name, **{key: value for key, value in told.items() if key != "settings"}), settings=settings
        )
    except TypeError as error:
        wanted = ", ".join(one.name for one in fields(Engine) if one.name != "name")
        raise JobError(f"{config_file()}: engines: {name}: expected the fields {wanted} ({error})") from error
    unknown = set(settings) - set(shipped.get(name, {}).get("settings", settings))
    if unknown:
        raise JobError(
            f"{config_file()}: engines: {name}: settings: {', '.join(sorted(unknown))} unknown; known: {', '.join(shipped[name]['settings'])}"
        )
    return made


def engines_here() -> list[str]:
    """`local`, and the engines whose command for submitting is installed on this machine."""
    names = sorted({*_read(_SHIPPED), *_section(_config(), "engines", config_file())})
    return ["local", *(name for name in names if shutil.which(engine(name).submit.partition(" ")[0]))]


def _config() -> dict[str, Any]:
    path = config_file()
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        state = path.stat()
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error})") from error
    return _parsed(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    """Pages ask at every run, and reading YAML takes a while; nobody changes what is returned."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise JobError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    return _section({"file": content}, "file", path)


def _section(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = content.get(name)
    if not isinstance(found, (dict, type(None))):
        raise JobError(f"{path}: {name}: expected settings (name: value), found {found!r}")
    return found or {}
