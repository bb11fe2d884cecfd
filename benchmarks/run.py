"""All benchmarks; writes docs/performance.md and docs/performance.json.

    python benchmarks/run.py --folder FOLDER                     # the checkpoints lie or are made there: 13 GB for 1B, 48 GB for 8B
    python benchmarks/run.py --folder FOLDER --only "live on a card" "locating on a card"   # with a CUDA card: 48 GB for 8B
    python benchmarks/run.py --folder FOLDER --peer-shape 1B --peers bfloat16 float32

mergekit needs 15 GB of memory at 1B, so it is compared at a smaller shape unless told otherwise. Locating on the processor has a page of its own:
`python benchmarks/locate.py`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path

import live
import locate_on_card
import merge
import torch
from checkpoints import SHAPES

PARTS = (
    "merge",
    "memory",
    "live",
    "live on a card",
    "locating on a card",
    "beside mergekit",
    "comparators",
    "large comparators",
)
ON_A_CARD = ("live on a card", "locating on a card")
PROJECT = Path(__file__).resolve().parents[1]


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return (
        f"{os.cpu_count()} CPU cores ({model}, {platform.system()}), Python {platform.python_version()}; load averages at the start "
        f"{load} (1, 5, 15 minutes)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--merge-shape", choices=SHAPES, default="1B")
    parser.add_argument("--memory-shapes", nargs="*", choices=SHAPES, default=["0.25B", "1B", "8B"])
    parser.add_argument("--comparator-shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--comparators", nargs="*", default=list(merge.COMPARATORS), choices=merge.COMPARATORS)
    parser.add_argument(
        "--large-peers", nargs="*", default=[], choices=merge.COMPARATORS, help="mergekit's, at --merge-shape"
    )
    parser.add_argument("--live-shape", choices=SHAPES, default="0.25B")
    parser.add_argument(
        "--card-shape", choices=SHAPES, default="8B", help="for the parts on a CUDA card: 48 GB of files"
    )
    parser.add_argument("--peer-shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--peer-runs", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--comparator-runs", type=int, default=1)
    parser.add_argument("--live-runs", type=int, default=9)
    parser.add_argument(
        "--peers", nargs="*", default=["bfloat16"], choices=("bfloat16", "float32"), help="dtypes of mergekit"
    )
    parser.add_argument("--note", default="", help="a sentence on the circumstances, put on top")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=_possible(), help="the others keep their figures")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "performance.md")
    arguments = parser.parse_args()
    folder, kept = arguments.folder, arguments.output.with_suffix(".json")
    parts = {
        "merge": lambda: merge.section(folder / arguments.merge_shape, arguments.merge_shape, arguments.runs),
        "memory": lambda: merge.size_section(folder, arguments.memory_shapes),
        "live": lambda: live.section(folder / arguments.live_shape, arguments.live_shape, arguments.live_runs),
        "live on a card": lambda: _live_on_card(folder / arguments.card_shape, arguments),
        "locating on a card": lambda: locate_on_card.section(
            folder / arguments.card_shape, arguments.card_shape, arguments.runs
        ),
        "beside mergekit": lambda: merge.peer_section(
            folder / arguments.peer_shape, arguments.peer_shape, arguments.peer_runs, arguments.peers
        ),
        "comparators": lambda: merge.comparator_section(
            folder / arguments.comparator_shape,
            arguments.comparator_shape,
            arguments.comparator_runs,
            arguments.comparators,
        ),
        "large comparators": lambda: merge.large_comparator_section(
            folder / arguments.merge_shape,
            arguments.merge_shape,
            arguments.comparator_runs,
            arguments.large_peers,
        ),
    }
    results = json.loads(kept.read_text()) if kept.exists() else {}
    results = {name: results[name] for name in PARTS if "text" in results.get(name, {})}
    for name in arguments.only:  # written after every part: a run that is cut short has lost nothing
        started, here = datetime.datetime.now(datetime.UTC), machine()
        lines, figures = parts[name]()
        about = f"{started:%Y-%m-%d %H:%M} UTC, {here}. {arguments.note}".strip()
        results[name] = {"about": about, "text": lines, "figures": figures}
        arguments.output.write_text(page(results))
        kept.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _possible() -> list[str]:
    """The parts that this machine can run."""
    return [part for part in PARTS if part not in ON_A_CARD or torch.cuda.is_available()]


def _live_on_card(folder: Path, arguments: argparse.Namespace) -> tuple[list[str], dict]:
    import live_on_card  # needs Triton

    return live_on_card.section(folder, arguments.card_shape, arguments.live_runs)


def page(results: dict) -> str:
    text = [
        "# Performance",
        "",
        "Written by `python benchmarks/run.py` (its `--help` lists the options); the figures of a part are from one run of it.",
        "",
    ]
    for name in PARTS:
        if name in results:
            title, *rest = results[name]["text"]
            text += [title, "", results[name]["about"], *rest]
    return "\n".join(text)


if __name__ == "__main__":
    main()
