"""All benchmarks; writes docs/performance.md and docs/performance.json.

    python benchmarks/run.py --folder FOLDER                     # the checkpoints lie or are made there: 13 GB for 1B
    python benchmarks/run.py --folder FOLDER --peer-shape 1B --peers bfloat16 float32

mergekit needs 15 GB of memory at 1B, so it is compared at a smaller shape unless told otherwise. Locating has a page of its own:
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
import merge
from checkpoints import SHAPES

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
    parser.add_argument("--comparator-shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--live-shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--peer-shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--peer-runs", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--comparator-runs", type=int, default=1)
    parser.add_argument("--live-runs", type=int, default=9)
    parser.add_argument(
        "--peers", nargs="*", default=["bfloat16"], choices=("bfloat16", "float32"), help="dtypes of mergekit"
    )
    parser.add_argument("--note", default="", help="a sentence on the circumstances, put on top")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "performance.md")
    arguments = parser.parse_args()
    started, here = datetime.datetime.now(datetime.UTC), machine()
    parts = {
        "merge": lambda: merge.section(
            arguments.folder / arguments.merge_shape, arguments.merge_shape, arguments.runs, []
        ),
        "live": lambda: live.section(
            arguments.folder / arguments.live_shape, arguments.live_shape, arguments.live_runs
        ),
        "beside mergekit": lambda: merge.section(
            arguments.folder / arguments.peer_shape, arguments.peer_shape, arguments.peer_runs, arguments.peers
        ),
        "comparators": lambda: merge.comparator_section(
            arguments.folder / arguments.comparator_shape, arguments.comparator_shape, arguments.comparator_runs
        ),
    }
    text = [
        "# Performance",
        "",
        "Written by `python benchmarks/run.py` (its `--help` lists the options); every figure is from one run of it. "
        f"{started:%Y-%m-%d}, {here}. {arguments.note}".rstrip(),
        "",
    ]
    results = {"machine": here, "note": arguments.note}
    for name, part in parts.items():  # written after every part: a run that is cut short has lost nothing
        lines, results[name] = part()
        text += lines
        arguments.output.write_text("\n".join(text))
        arguments.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
