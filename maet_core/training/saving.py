"""A trained model as a directory that transformers opens, all of it or nothing."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from maet_core.errors import OutputError


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    dtype: torch.dtype = torch.bfloat16,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Writes model (safetensors of `dtype`) and tokenizer to the new directory `out`, all of it or nothing.

    The model in memory keeps its dtype. `notes`: more files, by name, with their text. OutputError if `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out}: exists already; choose a new folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
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
        for name, text in (notes or {}).items():
            (part / name).write_text(text, "utf-8")
        os.chmod(part, 0o755)
        os.rename(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
