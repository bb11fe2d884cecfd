"""LoRA, the baseline that key neurons are compared with: through PEFT, saved as PEFT saves it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from maet_core.errors import InputError
from maet_core.training.options import LoraOptions
from maet_core.training.saving import write_directory


class LoraParameters:
    """Puts an adapter into `model`, whose own weights are frozen; B starts at zero, so that the first step begins at the base.

    Raises InputError for modules that the model does not have.
    """

    whole = True

    def __init__(self, model: PreTrainedModel, options: LoraOptions, source: str, seed: int):
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=options.rank,
            lora_alpha=options.alpha,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            target_modules=list(options.modules) or "all-linear",
        )
        torch.manual_seed(seed)
        try:
            with warnings.catch_warnings():
                # PEFT asks transformers by a name that will go with its next major release
                warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
                self._adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise InputError(f"--lora-modules: {str(error).splitlines()[0][:200]}") from error
        self._adapted.peft_config["default"].base_model_name_or_path = source
        self.tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def write_back(self) -> None:
        pass

    def release(self) -> None:
        pass

    def save(self, out: Path, notes: Mapping[str, str]) -> None:
        """Writes the adapter to the new directory `out`, all of it or nothing; `notes`: more files, by name, with their text."""

        def write(part: Path) -> None:
            # embeddings are not trained; without this PEFT would ask the hub whether they were
            self._adapted.save_pretrained(part, save_embedding_layers=False)
            (part / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
            for name, text in notes.items():
                (part / name).write_text(text, "utf-8")

        write_directory(out, write)
