"""LoRA, the baseline that key neurons are compared with: through PEFT, saved as PEFT saves it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from maet_core.errors import InputError
from maet_core.training.options import LoraOptions
from maet_core.training.placement import held, held_range
from maet_core.training.saving import write_directory


class Adapter:
    """An adapter: `put_into` a model, also one without values; `start` once it has some; trained as `NAMES`; `save`."""

    NAMES = ("*.lora_*",)  # match an adapter's parameters, and no others

    def __init__(self, options: LoraOptions, source: str):
        self._options, self._source = options, source

    def put_into(self, model: PreTrainedModel) -> None:
        """Freezes the model's own weights. InputError for modules that it does not have."""
        options = self._options
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=options.rank,
            lora_alpha=options.alpha,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            target_modules=list(options.modules) or "all-linear",
        )
        try:
            with warnings.catch_warnings():
                # PEFT asks transformers by a name that will go with its next major release
                warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
                self._adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise InputError(f"--lora-modules: {str(error).splitlines()[0][:200]}") from error
        self._adapted.peft_config["default"].base_model_name_or_path = self._source

    @torch.no_grad()
    def start(self, seed: int) -> None:
        """What LoRA starts from: A uniform within 1 / √inputs, B zero, so that the first step begins at the base; for an
        embedding A zero and B normal, as PEFT has them. The seed alone decides, however the model is sharded."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self._parameters().items():
            drawn = torch.zeros(parameter.numel())
            if ".lora_A." in name:
                bound = 1 / math.sqrt(parameter.numel() / parameter.shape[0])
                drawn.uniform_(-bound, bound, generator=generator)
            elif ".lora_embedding_B." in name:
                drawn.normal_(generator=generator)
            first, last = held_range(parameter)
            held(parameter.data).reshape(-1).copy_(drawn[first:last])

    def save(self, out: Path, notes: Mapping[str, str], writes: bool = True) -> None:
        """Writes the new directory `out`, all of it or nothing; `notes`: more files, by name, with their text.

        Of a sharded model every process calls this, and the one that `writes` does.
        """
        tensors = {}
        for name, parameter in self._parameters().items():
            values = parameter.detach()
            tensors[name] = (values.full_tensor() if isinstance(values, DTensor) else values).cpu()

        def write(part: Path) -> None:
            # embeddings are not trained; without this PEFT would ask the hub whether they were
            self._adapted.save_pretrained(part, state_dict=tensors, save_embedding_layers=False)
            (part / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
            for name, text in notes.items():
                (part / name).write_text(text, "utf-8")

        if writes:
            write_directory(out, write)

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return {name: parameter for name, parameter in self._adapted.named_parameters() if ".lora_" in name}
