"""`maet merge`: a recipe in, a directory out that `AutoModelForCausalLM.from_pretrained` opens. Whole, or not at all."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import maet_core
from maet_core.checkpoints import Checkpoint
from maet_core.dtypes import CODES
from maet_core.merging.card import model_card
from maet_core.merging.devices import choose_cards
from maet_core.merging.output import new_directory
from maet_core.merging.plan import plan_merge
from maet_core.merging.writer import nbytes, write_weights
from maet_core.methods import METHODS
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.safetensors_writer import Layout
from maet_core.sources import Sources


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
    sync: bool = True,
) -> MergeReport:
    """Merges `recipe` (paths relative to `folder`) into the new directory `output`.

    Raises InputError for anything that does not fit, OutputError if `output` exists, is being written or has no room, Cancelled
    when `halted()` says so; in every case nothing is left behind. A process that is killed leaves a hidden directory, and the
    same merge started again goes on there. Without `sync` the end does not wait for the disk, and a power cut soon after can leave
    a model with holes.
    """
    started, output = time.monotonic(), Path(output)
    cards, reason = choose_cards(device)
    if cards and not METHODS[recipe.method.name].linear:
        cards, reason = [], f"{recipe.method.name} looks at single values, which runs on the CPU"
    sources = Sources.open(recipe, folder, ranked=False)
    layout = output_layout(sources.base, recipe)
    work = {"recipe": recipe.to_dict(), "inputs": sources.stamps(), "version": maet_core.__version__}
    needed = sum(nbytes(layout, name) for name in layout)
    with new_directory(output, needed, work, sync) as partial:
        sources.hash_in_passing()
        plan = plan_merge(sources, None, progress, halted)
        changed = write_weights(plan, layout, partial, cards, progress, halted)
        _write_companions(sources.base, recipe, partial.path)
        (partial.path / "README.md").write_text(model_card(plan, output.name), "utf-8")
        partial.forget()
        written = sum(file.stat().st_size for file in partial.path.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return MergeReport(
        output=str(output),
        tensors=len(layout),
        tensors_changed=sum(count > 0 for count in changed.values()),
        parameters=sources.base.parameters,
        parameters_changed=sum(changed.values()),
        seconds=round(time.monotonic() - started, 3),
        bytes_read=sources.bytes_read,
        bytes_written=written,
        peak_bytes=peak,
        device=", ".join(map(str, cards)) or "cpu",
        device_reason=reason,
    )


def output_layout(base: Checkpoint, recipe: Recipe) -> Layout:
    """Every tensor of the base with the dtype it is written in; what is no float keeps its own."""
    code = CODES.get(recipe.output.dtype)
    return {
        name: ((code or info.code) if info.mergeable else info.code, info.shape) for name, info in base.tensors.items()
    }


def _write_companions(base: Checkpoint, recipe: Recipe, directory: Path) -> None:
    for file in base.companions():
        shutil.copyfile(file, directory / file.name)
    if recipe.output.dtype != "base" and base.config:
        config = dict(base.config)
        config.pop("torch_dtype", None)
        config["dtype"] = recipe.output.dtype
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
