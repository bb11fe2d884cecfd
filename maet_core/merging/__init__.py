"""Step 5 of the method: Eq. 4 over whole checkpoints, streamed from disk to disk."""

from maet_core.merging.plan import MergePlan, plan_merge
from maet_core.merging.run import MergeReport, merge

__all__ = ["MergePlan", "MergeReport", "merge", "plan_merge"]
