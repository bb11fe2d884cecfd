"""Work in the background: a job is one command and one run directory. No daemon, no database; engines are configuration.

`submit` starts one, `status` and `listed` tell, `cancel`, `resume` and `remove` act; see docs/jobs.md. Nothing here imports
torch, and a job is always a process of its own, so the app and its jobs never share a GPU's memory.
"""

from maet_core.jobs.acting import cancel, remove, resume, wait
from maet_core.jobs.record import ENDED, RESUMABLE, Job, Status
from maet_core.jobs.status import listed, status
from maet_core.jobs.submission import submit

__all__ = ["ENDED", "RESUMABLE", "Job", "Status", "cancel", "listed", "remove", "resume", "status", "submit", "wait"]
