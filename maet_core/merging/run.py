"""`maet merge`: a recipe in, a directory out that `AutoModelForCausalLM.from_pretrained` opens. Whole, or not at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from maet_core.checkpoints import INDEX_FILE, Checkpoint
from maet_core.errors import InputError, OutputError
from maet_core.merging.card import model_card
from maet_core.merging.plan import MergePlan, plan_merge
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.safetensors_writer import Layout, SafetensorsWriter, output_error, storage_order
from maet_core.selection import Measured
from maet_core.sources import Sources
from maet_core.weights.differences import finite

CHUNK_ELEMENTS = 1 << 20
_OUTPUT_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class MergeReport:
    """What was done. `tensors_changed` and `parameters_changed` count what differs from the base in the output's dtype;
    `peak_bytes` is the largest resident size of the process."""

    output: str
    tensors: int
    tensors_changed: int
    parameters: int
    parameters_changed: int
    seconds: float
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    device: str
    device_reason: str

    def to_dict(self) -> dict:
        return asdict(self)


def merge(
    recipe: Recipe,
    folder: str | Path,
    output: str | Path,
    device: str = "auto",
    progress: Progress | None = None,
    halted: Halted | None = None,
    measured: Measured | None = None,
) -> MergeReport:
    """Merges `recipe` (paths relative to `folder`) into the new directory `output`.

    Raises InputError for anything that does not fit, OutputError if `output` exists or has no room, Cancelled when `halted()`
    says so; in every case nothing is left behind.
    """
    started, output = time.monotonic(), Path(output)
    if output.exists() or output.is_symlink():
        raise OutputError(f"{output}: exists already; choose another name or remove it first")
    target, reason = choose_device(device)
    sources = Sources.open(recipe, folder)
    plan = plan_merge(sources, measured, progress, halted)
    layout = output_layout(sources.base, recipe)
    with _new_directory(output, sum(_nbytes(layout, name) for name in layout)) as directory:
        counts = _write_weights(plan, layout, directory, target, progress, halted)
        _write_companions(sources.base, recipe, directory)
        (directory / "README.md").write_text(model_card(plan, output.name), "utf-8")
        written = sum(file.stat().st_size for file in directory.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return MergeReport(
        output=str(output),
        tensors=len(layout),
        parameters=sources.base.parameters,
        seconds=round(time.monotonic() - started, 3),
        bytes_read=sources.bytes_read,
        bytes_written=written,
        peak_bytes=peak,
        device=str(target),
        device_reason=reason,
        **counts,
    )


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """The device that computes, and why. Raises InputError if the wanted one is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            if free > 1 << 30:
                return torch.device("cuda"), f"a CUDA card with {free / 2**30:.1f} GiB free"
        return torch.device("cpu"), "no CUDA card with room; a merge is bound by the disk anyway"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(wanted.partition(":")[0]):
        raise InputError(
            f"--device: {wanted} is not available here; available: auto, {', '.join(d for d, ok in available.items() if ok)}"
        )
    return torch.device(wanted), "asked for"


def output_layout(base: Checkpoint, recipe: Recipe) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Every tensor of the base with the dtype it is written in; what is no float keeps its own."""
    dtype = _OUTPUT_DTYPES.get(recipe.output.dtype)
    return {
        name: ((dtype or info.dtype) if info.mergeable else info.dtype, info.shape)
        for name, info in base.tensors.items()
    }


def shard(layout: Layout, shard_bytes: int) -> list[list[str]]:
    """Tensor names in files of at most `shard_bytes`; a larger tensor has a file of its own."""
    shards: list[list[str]] = []
    room = 0
    for name in layout:
        size = _nbytes(layout, name)
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards or [[]]


def _write_weights(
    plan: MergePlan,
    layout: Layout,
    directory: Path,
    device: torch.device,
    progress: Progress | None,
    halted: Halted | None,
) -> dict[str, int]:
    shards = shard(layout, plan.sources.recipe.output.shard_bytes)
    files = ["model.safetensors"] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    total, done = sum(info.numel for info in plan.sources.base.tensors.values()), 0
    tensors_changed = parameters_changed = 0
    for file, names in zip(files, shards, strict=True):
        part = {name: layout[name] for name in names}
        with SafetensorsWriter(directory / file, part, {"format": "pt"}) as writer:
            for name in storage_order(part):
                writer.begin(name, *layout[name])
                changed = 0
                for count, chunk in _merged_chunks(plan, name, layout[name][0], device):
                    tell(progress, halted, "merging", done, total)
                    writer.append(chunk)
                    changed += count
                    done += chunk.numel()
                tensors_changed += changed > 0
                parameters_changed += changed
    if len(shards) > 1:
        weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(_nbytes(layout, name) for name in layout)}, "weight_map": weight_map}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")
    tell(progress, halted, "merging", total, total)
    return {"tensors_changed": tensors_changed, "parameters_changed": parameters_changed}


def _merged_chunks(
    plan: MergePlan, name: str, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[int, torch.Tensor]]:
    """(parameters that differ from the base, values in the output's dtype), chunk by chunk."""
    base, terms = plan.sources.base, plan.terms(name)
    info = base.tensors[name]
    for start in range(0, info.numel, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, info.numel)
        values = base.read(name, start, stop).reshape(-1)
        if info.mergeable:
            finite(values, base.source, name, start)
        kept = values.to(dtype)
        if terms.empty:
            result, changed = kept, 0
        else:
            result = plan.chunk(terms, name, start, stop, values.to(device)).to(dtype).cpu()
            changed = int((result != kept).sum())
        if info.mergeable and not bool(torch.isfinite(result.sum(dtype=torch.float64))):
            raise InputError(
                f"output.dtype: the merged tensor {name} does not fit {dtype} (a value beyond {torch.finfo(dtype).max:g}); "
                "use smaller coefficients, or bfloat16"
            )
        yield changed, result


def _write_companions(base: Checkpoint, recipe: Recipe, directory: Path) -> None:
    for file in base.companions():
        shutil.copyfile(file, directory / file.name)
    if recipe.output.dtype != "base" and base.config:
        config = dict(base.config)
        config.pop("torch_dtype", None)
        config["dtype"] = recipe.output.dtype
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


@contextmanager
def _new_directory(output: Path, needed_bytes: int) -> Iterator[Path]:
    """A hidden directory beside `output` that takes its name when the block ends well, and vanishes when it does not."""
    created = [parent for parent in output.parents if not parent.exists()]
    directory = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(output.parent).free
        if free < needed_bytes:
            raise OutputError(
                f"{output}: the merged model needs {needed_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; free some, or choose another place"
            )
        directory = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
        yield directory
        directory.chmod(0o777 & ~_umask())
        os.rename(directory, output)
    except BaseException as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        for parent in created:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):
            raise output_error(output, error) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _shard_name(position: int, count: int) -> str:
    return f"model-{position + 1:05d}-of-{count:05d}.safetensors"


def _nbytes(layout: Layout, name: str) -> int:
    dtype, shape = layout[name]
    return torch.Size(shape).numel() * dtype.itemsize
