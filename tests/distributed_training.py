"""Started twice by torchrun: trains what `cases.json` in the folder names, on two gloo processes, through the library.

    torchrun --nproc-per-node 2 distributed_training.py FOLDER

A case that is `cut` is stopped after that step, and given again: it goes on from what is on the disk. One that is `left` is
not given again, and its losses are kept.
"""

import contextlib
import json
import os
import sys
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
    counted = []

    def halted() -> bool:
        counted.append(1)
        return len(counted) >= cut and processes.rank == 1  # the others hear of it

    train_checkpoint(
        base,
        [tuple(pair) for pair in json.loads((folder / "documents.json").read_text())],
        TrainingOptions(**case["options"]),
        folder / case["output"],
        keys,
        case.get("revert", False),
        save_every_steps=2,
        lora=LoraOptions(2, 4.0) if case.get("lora") else None,
        processes=processes,
        halted=halted if cut is not None else None,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    folder = Path(sys.argv[1])
    with Processes.join() as whole:
        sharded = Processes(whole.rank, whole.count, whole.device, sharded=True)
        for case in json.loads((folder / "cases.json").read_text()):
            processes = sharded if case["sharded"] else whole
            if "cut" in case or "left" in case:
                with contextlib.suppress(Stopped):
                    run(folder, case, processes, case.get("cut", case.get("left")))
                whole.wait()
                state = folder / f".{case['output']}.training"
                parts = list(state.glob("step-*"))
                assert len(parts) == (2 if case["sharded"] else 1), parts
                if "left" in case and whole.first:
                    losses = json.loads((state / "state.json").read_text())["losses"]
                    (folder / f"{case['output']}.losses").write_text(json.dumps([round(loss, 5) for loss in losses]))
                whole.wait()
            if "left" not in case:
                run(folder, case, processes)
    os._exit(0)  # torch's watchdog threads take their time
