"""Started by torchrun: trains what `cases.json` in the folder names, through the library, on gloo or, on CUDA cards, on NCCL.

    torchrun --nproc-per-node 2 distributed_training.py FOLDER [DEVICE]

A case that is `cut` is stopped after that step, and given again: it goes on from what is on the disk. One that is `left` is
not given again, and its losses are kept.
"""

import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from maet_core.checkpoints import Checkpoint
from maet_core.errors import Stopped
from maet_core.importance import SavedScores, select_key_neurons
from maet_core.training import LoraOptions, Processes, TrainingOptions
from maet_core.training.checkpoint import train_checkpoint


def run(folder: Path, case: dict, processes: Processes, cut: int | None = None) -> None:
    base = Checkpoint.open(folder / case["base"])
    keys = select_key_neurons(SavedScores(folder / case["scores"], base), 20.0) if "scores" in case else None
    steps = []

    def halted() -> bool:
        if processes.rank < processes.count - 1:
            return False  # it hears of it
        if not processes.first:
            steps.append(None)  # only the first is told of its steps
        return len(steps) + processes.first >= cut

    train_checkpoint(
        base,
        [tuple(pair) for pair in json.loads((folder / "documents.json").read_text())],
        TrainingOptions(**case["options"]),
        folder / case["output"],
        keys,
        case.get("revert", False),
        save_every_steps=2,
        progress=steps.append,
        lora=LoraOptions(2, 4.0) if case.get("lora") else None,
        processes=processes,
        halted=halted if cut is not None else None,
    )


def check_copies(processes: Processes) -> None:
    """Gradients averaged by DistributedDataParallel, over a step of two batches, are those of one process with all batches."""
    torch.manual_seed(5)
    model = torch.nn.Linear(7, 3, dtype=torch.float64, device=processes.device)
    batches = torch.randn(2 * processes.count, 4, 7, dtype=torch.float64).to(processes.device)
    expected = torch.autograd.grad(sum(model(batch).square().mean() for batch in batches) / len(batches), model.weight)
    forward = processes.replicate(model)
    for last, batch in enumerate(batches[processes.rank :: processes.count]):
        with processes.synchronized(forward, bool(last)):
            (forward(batch).square().mean() / 2).backward()
    torch.testing.assert_close(model.weight.grad, expected[0], rtol=0, atol=1e-12)
    assert processes.sum([1.0, 0.5]) == [processes.count, processes.count / 2]


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    folder = Path(sys.argv[1])
    with Processes.join(*sys.argv[2:], sharded=True) as sharded:
        whole = replace(sharded, sharded=False)
        check_copies(whole)
        for case in json.loads((folder / "cases.json").read_text()):
            processes = sharded if case["sharded"] else whole
            if "cut" in case or "left" in case:
                with contextlib.suppress(Stopped):
                    run(folder, case, processes, case.get("cut", case.get("left")))
                whole.wait()
                state = folder / f".{case['output']}.training"
                parts = list(state.glob("step-*"))
                assert len(parts) == (processes.count if case["sharded"] else 1), parts
                if "left" in case and whole.first:
                    losses = json.loads((state / "state.json").read_text())["losses"]
                    (folder / f"{case['output']}.losses").write_text(json.dumps([round(loss, 5) for loss in losses]))
                whole.wait()
            if "left" not in case:
                run(folder, case, processes)
    os._exit(0)  # torch's watchdog threads take their time
