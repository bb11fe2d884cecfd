"""A resident model whose weights follow a recipe: nothing is written to disk, only what a change touches is computed again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from maet_core.anatomy import Place
from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.merging.combine import Combiner
from maet_core.merging.plan import Addend, MergePlan, plan_merge
from maet_core.progress import each
from maet_core.recipe import Recipe
from maet_core.selection import Measured, Selection, measure
from maet_core.sources import Sources

transformers.utils.logging.disable_progress_bar()  # its bars would mix with our own on stderr


@dataclass(frozen=True)
class Changed:
    """What one `apply` rewrote."""

    tensors: int
    parameters: int
    seconds: float


class LiveModel:
    """`model` is a transformers causal LM that holds, bit for bit, the weights of a fresh merge of `recipe`.

    Every tensor is computed from the base, never from its last value, so no sequence of changes leaves a trace. Hold `lock`
    while the model answers: `apply` waits for it, and an answer never mixes two settings.
    """

    def __init__(self, sources: Sources, device: str = "cpu"):
        self.lock = threading.RLock()
        self.sources = sources
        self.model = load_model(sources.base, device)
        self.tokenizer = load_tokenizer(sources.base)
        self._parameters = _parameters_by_name(self.model, sources.base)
        self._addends: dict[str, list[Addend] | None] = {}
        self._measured: Measured | None = None
        self._plan: MergePlan | None = None
        self.apply(sources.recipe)

    @property
    def recipe(self) -> Recipe:
        return self.sources.recipe

    @property
    def selections(self) -> dict[str, Selection] | None:
        """T_i of every ability; None where it cannot change the weights."""
        return self._plan.selections

    def apply(self, recipe: Recipe) -> Changed:
        """Makes the weights those of `recipe`, which must name the same models.

        Raises InputError for a recipe that cannot be followed, RecipeError for other models; the weights are then as before.
        """
        started = time.monotonic()
        with self.lock, torch.no_grad():
            sources = self.sources.with_coefficients(recipe)
            plan = plan_merge(sources, self._measure(sources))
            try:
                changed = self._rewrite(plan, started)
            except Exception:
                if self._plan is not None:
                    self._rewrite(self._plan, started)
                raise
            self.sources, self._plan = sources, plan
            return changed

    def _measure(self, sources: Sources) -> Measured:
        """Similarities of the open models; measured once, and again when key neurons change."""
        if self._measured is None or _key_neurons(self._measured.sources) != _key_neurons(sources):
            self._measured = measure(sources)
        return self._measured

    def _rewrite(self, plan: MergePlan, started: float) -> Changed:
        addends = {name: plan.addends(name) for name in self._parameters}
        stale = [name for name in addends if not _same(addends[name], self._addends.get(name, []))]
        scratch = threading.local()

        def rewrite(name: str) -> int:
            if not hasattr(scratch, "combiner"):
                scratch.combiner = Combiner(plan)
            self._addends[name] = None  # should the next lines fail, the tensor is computed again
            flat = self._parameters[name].view(-1)
            for start in range(0, flat.numel(), CHUNK_ELEMENTS):
                stop = min(start + CHUNK_ELEMENTS, flat.numel())
                flat[start:stop] = scratch.combiner.chunk(name, start, stop, flat.dtype)[0]
            self._addends[name] = addends[name]
            return flat.numel()

        parameters = sum(each(stale, rewrite, "following"))
        return Changed(len(stale), parameters, time.monotonic() - started)


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


def _parameters_by_name(model: torch.nn.Module, base: Checkpoint) -> dict[str, torch.Tensor]:
    """The model's own storage for every tensor of the checkpoint; a tied head has the embedding's."""
    state = model.state_dict(keep_vars=True)
    prefix = f"{model.base_model_prefix}."
    found = {}
    for name, info in base.tensors.items():
        place = base.anatomy.place(name)
        if not info.mergeable or place.kind == "buffer" or name in base.tied_copies:
            continue
        parameter = next((state[key] for key in (name, prefix + name, name.removeprefix(prefix)) if key in state), None)
        if parameter is None:
            parameter = _renamed(state, name, place)
            if parameter is not None and not torch.equal(parameter.cpu(), base.read(name)):
                parameter = None  # the guess was wrong
        if parameter is None or tuple(parameter.shape) != info.shape:
            raise CheckpointError(
                f"{base.source}: transformers keeps tensor {name} under another name or shape, so it cannot follow live; "
                "merge to disk and open the result"
            )
        found[name] = parameter.data
    return found


def _renamed(state: dict[str, torch.Tensor], name: str, place: Place) -> torch.Tensor | None:
    """Where transformers keeps what checkpoints store under other names: heads, routers, and experts one by one, which it stacks
    by layer, gate and up projection in one."""
    key = "lm_head.weight" if place.kind == "head" else name.replace(".block_sparse_moe.", ".mlp.")
    if key in state:
        return state[key]
    head, experts, _ = key.partition(".experts.")
    stack = state.get(f"{head}{experts}{'down_proj' if place.module == 'down_proj' else 'gate_up_proj'}")
    if stack is None or place.expert is None:
        return None
    expert = stack[place.expert]
    if place.module == "down_proj":
        return expert
    half = expert.shape[0] // 2
    return expert[:half] if place.module == "gate_proj" else expert[half:]


def _key_neurons(sources: Sources) -> dict[str, object]:
    return {name: weights.key_neurons for name, weights in sources.abilities.items()}


def _same(addends: list[Addend], before: list[Addend] | None) -> bool:
    """Whether a tensor's sum is what it was; None stands for values of unknown state."""
    return (
        before is not None
        and len(addends) == len(before)
        and all(new.same(old) for new, old in zip(addends, before, strict=True))
    )
