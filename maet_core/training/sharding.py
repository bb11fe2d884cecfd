"""FSDP2: a checkpoint as a model of which every process holds a part, read straight from the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import accelerate
import torch
import transformers
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.training.placement import Stretch, places, stretches
from maet_core.training.processes import Processes


def load_sharded(
    base: Checkpoint,
    dtype: torch.dtype,
    processes: Processes,
    bf16: bool,
    adapt: Callable[[transformers.PreTrainedModel], Any] | None = None,
) -> tuple[transformers.PreTrainedModel, dict[str, Stretch]]:
    """The model with parameters of `dtype`, layer by layer and the rest, and what this process holds of every tensor.

    No process ever holds the whole model. `bf16`: a layer is gathered and computed in bfloat16, its gradient reduced in
    float32. `adapt` is called with the model while it has no values; what it adds is sharded too, and has none afterwards.
    """
    config = transformers.AutoConfig.from_pretrained(base.path, trust_remote_code=False, local_files_only=True)
    with accelerate.init_empty_weights(include_buffers=False):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    where = places(model, base, check=False)
    empty = {name for name, _ in model.named_parameters()} - {key for key, _ in where.values()}
    if empty:
        raise CheckpointError(f"{base.source}: nothing is stored for {min(empty)}; this model cannot be sharded")
    if adapt:
        parameters = dict(model.named_parameters())
        adapt(model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        where = {name: (names[id(parameters[key])], offset) for name, (key, offset) in where.items()}
    mesh = init_device_mesh(torch.device(processes.device).type, (processes.count,))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    layers = set(model._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to_empty(device=processes.device)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    parts = stretches(model, base, where)
    with torch.no_grad():
        for name, part in parts.items():
            if part.stop > part.start:
                part.values.copy_(base.read(name, part.start, part.stop))
    return model, parts
