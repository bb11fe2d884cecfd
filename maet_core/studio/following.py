"""A job that a page has started: how far it is, Stop, and the way to what it made."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import Status
from maet_core.studio import background, entries, resources, shell, state


def follow(job: str, key: str) -> None:
    """Draws the job with this id; nothing when somebody has removed it. `key` is for its buttons."""
    try:
        found = jobs.status(resources.workspace().path, job)
    except JobError:
        return
    if found.name not in jobs.ENDED:
        _watch(job)
        # outside the fragment, so that a click is heard while it runs
        st.button("Stop", key=key, on_click=shell.guarded(lambda: jobs.cancel(resources.workspace().path, job)))
    elif found.name == "done":
        st.success(f"{_made(found)} is saved, after {background.duration(found.state.seconds)}.")
        open_result(found, f"{key}-open")
    elif found.name == "cancelled":
        st.info(f"Stopped. {found.job.title} can be resumed, or removed, on Jobs.")
    else:
        st.error(found.state.error, icon=":material/error:")
    shell.link("jobs", f"Job {found.job.number} on Jobs")


def open_result(found: Status, key: str) -> None:
    """A button that leads to what a job has made, where a page can show it."""
    made = Path(_made(found))
    if found.name != "done" or not (resources.workspace().path / made).exists():
        return
    pages = {
        "models": ("models", None),
        "packs": ("models", None),
        "scores": ("neurons", ("score", f"file:{made}")),
        "results": ("evaluate", ("result", made.name)),
    }
    if len(made.parts) != 2 or made.parts[0] not in pages:
        return
    page, view = pages[made.parts[0]]
    chosen = {"on_click": state.set_view, "args": view} if view else {"on_click": entries.acted}
    if st.button(f"See it on {page.title()}", key=key, icon=":material/arrow_forward:", **chosen):
        shell.go(page)


def _made(found: Status) -> str:
    """The output, relative to the workspace where it lies in it."""
    output = Path(found.job.output)
    workspace = resources.workspace().path
    return (output.relative_to(workspace) if output.is_relative_to(workspace) else output).as_posix()


@shell.fragment(run_every=0.5)
def _watch(job: str) -> None:
    found = jobs.status(resources.workspace().path, job)
    if found.name in jobs.ENDED:
        entries.draw_again()
    st.progress(found.share, f"{found.job.title}: {background.where(found)}")
