"""A trained model as a directory that transformers opens, all of it or nothing."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from maet_core.checkpoints import INDEX_FILE, Checkpoint
from maet_core.errors import OutputError
from maet_core.safetensors_writer import SafetensorsWriter, storage_order
from maet_core.training.placement import Stretch


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Writes a new model (safetensors of `dtype`) and its tokenizer to the new directory `out`; the one in memory keeps its dtype.

    OutputError if `out` exists.
    """

    def write(part: Path) -> None:
        cast: dict[int, torch.Tensor] = {}  # by storage, so that tied tensors stay one
        state = {
            name: cast.setdefault(tensor.data_ptr(), tensor.detach().to(dtype))
            for name, tensor in model.state_dict().items()
        }
        model.save_pretrained(part, state_dict=state)
        config = copy.deepcopy(model.config)  # save_pretrained wrote the dtype of the model in memory
        config.dtype = dtype
        config.save_pretrained(part)
        tokenizer.save_pretrained(part)

    write_directory(out, write)


def save_like_base(
    base: Checkpoint, parts: Mapping[str, Stretch], out: Path, notes: Mapping[str, str], writes: bool = True
) -> None:
    """Writes the trained values to the new directory `out` with the files, tensor names and dtypes of the base.

    Of a sharded model every process calls this, and the one that `writes` does; then one whole tensor at a time is in memory.
    What training has no part in (buffers, whole numbers) is the base's. `notes`: more files, by name, with their text.
    """
    gathered: tuple[torch.nn.Parameter | None, torch.Tensor | None] = (None, None)

    def values(name: str) -> torch.Tensor:
        nonlocal gathered
        part = parts.get(base.tied_copies.get(name, name))
        if part is None:
            return base.read(name)
        if gathered[0] is not part.parameter:  # several tensors may lie in one parameter
            tensor = part.parameter.detach()
            gathered = part.parameter, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        info = base.tensors[name]
        flat = gathered[1].reshape(-1)[part.offset : part.offset + info.numel]
        return flat.to(info.dtype).cpu().reshape(info.shape)

    def write(folder: Path | None) -> None:
        for file in base.files:
            layout = {name: (info.code, info.shape) for name, info in file.tensors.items()}
            writing = SafetensorsWriter(folder / file.path.name, layout, {"format": "pt"}) if folder else nullcontext()
            with writing as writer:
                for name in storage_order(layout):
                    tensor = values(name)
                    if writer:
                        writer.add(name, tensor)
        if folder is None:
            return
        index = base.path / INDEX_FILE
        for companion in (*base.companions(), *([index] if index.is_file() else [])):
            shutil.copyfile(companion, folder / companion.name)
        for name, text in notes.items():
            (folder / name).write_text(text, "utf-8")

    if writes:
        write_directory(out, write)
    else:
        write(None)


def write_directory(out: Path, write: Callable[[Path], None]) -> None:
    """`write` fills a hidden directory, which takes the name `out` when it is whole. OutputError if `out` exists."""
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out}: exists already; choose a new folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        write(part)
        os.chmod(part, 0o755)
        for path in part.iterdir():  # libraries write some for the owner's eyes only
            os.chmod(path, 0o644)
        os.rename(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
