"""A checkpoint as a transformers model in memory, and where each of its tensors lies there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from maet_core.anatomy import Place
from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.scratch import staggered

transformers.utils.logging.disable_progress_bar()  # its bars would mix with our own on stderr


@dataclass(frozen=True)
class Slot:
    """One tensor of the checkpoint inside a parameter of the model: all of it, or the part at `index`."""

    parameter: torch.nn.Parameter
    index: tuple[int | slice, ...] = ()

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The part of something of the parameter's shape (its values, its gradient) that belongs to this tensor."""
        return tensor[self.index] if self.index else tensor

    @property
    def values(self) -> torch.Tensor:
        return self.view(self.parameter.data)


def load_model(checkpoint: Checkpoint, device: str = "cpu") -> torch.nn.Module:
    """The checkpoint as a causal LM in its own dtype, in evaluation mode. Never runs code from the model's folder."""
    folder = _folder(checkpoint)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint.source}: transformers cannot open it ({str(error).splitlines()[0][:200]})"
        ) from error
    return model.to(device).eval()


def give_own_memory(model: torch.nn.Module) -> None:
    """Parameters on the processor lie where their file is mapped, in small pages, and every page is copied when it is first written to.
    Weights that will move are better off in memory of their own."""
    parameters = [parameter for parameter in model.parameters() if parameter.device.type == "cpu"]
    memory = staggered([parameter.nbytes for parameter in parameters], 0)
    for parameter, there in zip(parameters, memory, strict=True):
        values = torch.from_numpy(there).view(parameter.dtype).view(parameter.shape)
        parameter.data = values.copy_(parameter.detach())


def load_tokenizer(checkpoint: Checkpoint) -> transformers.PreTrainedTokenizerBase:
    try:
        return transformers.AutoTokenizer.from_pretrained(
            _folder(checkpoint), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint.source}: no tokenizer that can be opened ({str(error).splitlines()[0][:200]})"
        ) from error


def _folder(checkpoint: Checkpoint) -> Path:
    if checkpoint.path.is_file() or not checkpoint.config:
        raise CheckpointError(f"{checkpoint.source}: config.json is missing, so the model cannot be built to answer")
    return checkpoint.path


def free_bytes_on(card: torch.device) -> int:
    """Memory of a CUDA card that nobody uses, with what torch keeps for the next who asks."""
    free, _ = torch.cuda.mem_get_info(card)
    return free + torch.cuda.memory_reserved(card) - torch.cuda.memory_allocated(card)


def parameter_slots(model: torch.nn.Module, base: Checkpoint, check: bool = True) -> dict[str, Slot]:
    """Where every tensor of the checkpoint lies in the model; a tied head lies where the embedding does.

    `check` holds a guess against the checkpoint's values, which the model must have then. Raises CheckpointError for a tensor that transformers keeps in some form that is not known here.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    prefix = f"{model.base_model_prefix}."
    found = {}
    for name, info in base.tensors.items():
        place = base.anatomy.place(name)
        if not info.mergeable or place.kind == "buffer" or name in base.tied_copies:
            continue
        known = next((key for key in (name, prefix + name, name.removeprefix(prefix)) if key in parameters), None)
        slot = Slot(parameters[known]) if known else _renamed(parameters, name, place)
        if (
            slot is None
            or tuple(slot.values.shape) != info.shape
            or not (known or not check or _holds(slot, base, name))
        ):
            raise CheckpointError(
                f"{base.source}: transformers keeps tensor {name} under another name or shape, so it cannot follow live; "
                "merge to disk and open the result"
            )
        found[name] = slot
    return found


def _renamed(parameters: dict[str, torch.nn.Parameter], name: str, place: Place) -> Slot | None:
    """Where transformers keeps what checkpoints store under other names: heads, routers, and experts one by one, which it stacks
    by layer, gate and up projection in one."""
    key = "lm_head.weight" if place.kind == "head" else name.replace(".block_sparse_moe.", ".mlp.")
    if key in parameters:
        return Slot(parameters[key])
    head, experts, _ = key.partition(".experts.")
    stack = parameters.get(f"{head}{experts}{'down_proj' if place.module == 'down_proj' else 'gate_up_proj'}")
    if stack is None or place.expert is None:
        return None
    if place.module == "down_proj":
        return Slot(stack, (place.expert,))
    half = stack.shape[1] // 2
    return Slot(stack, (place.expert, slice(0, half) if place.module == "gate_proj" else slice(half, None)))


def _holds(slot: Slot, base: Checkpoint, name: str) -> bool:
    """Whether a guess is right: the slot has the values of the checkpoint."""
    return torch.equal(slot.values.cpu(), base.read(name).to(slot.values.dtype))
