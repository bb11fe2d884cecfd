"""Work in the background: what runs, what waits, what has ended, and what can be done about it."""

import html
import shlex

import streamlit as st

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import ENDED, RESUMABLE, Status, reading
from maet_core.jobs.record import Run
from maet_core.studio import background, charts, entries, following, resources, shell, state

shell.guard()

MOST_ENDED = 30
MARKS = {
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "cancelled": ":material/cancel:",
    "interrupted": ":material/bolt:",
}


def workspace():
    return resources.workspace().path


def run_of(found: Status) -> Run:
    return Run.find(workspace(), found.job.id)


def act(what, found: Status):
    """A callback that changes a job; refused where nothing may be written."""

    def changed() -> None:
        resources.workspace().need_writable()
        what(workspace(), found.job.id)

    return shell.guarded(changed)


def heading(found: Status) -> None:
    job = found.job
    parts = [str(job.number), job.kind]
    parts += [job.engine] if job.engine != "local" else []
    parts += [f"GPU {', '.join(found.state.devices)}"] if found.state.devices else []
    parts += [background.moment(found.state.ended)] if found.name in ENDED else []
    st.html(
        f"<div class='maet-job'><b>{html.escape(job.title)}</b> "
        f"<span>{html.escape(' · '.join(filter(None, parts)))}</span></div>"
    )


def active(found: Status) -> None:
    with st.container(border=True, key=f"jobs-active-{found.job.number}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            heading(found)
            if found.name == "queued":
                st.caption(background.where(found), width="content")
            with st.popover("Command"):
                command(found)
            # outside the fragment, so that a click is heard while it runs
            st.button("Cancel", key=f"jobs-cancel-{found.job.number}", on_click=act(jobs.cancel, found))
        if found.name == "running":
            live(found.job.id)
        elif found.note:
            st.caption(found.note)


def command(found: Status) -> None:
    st.code(f"cd {shlex.quote(found.job.folder)}\n{found.job.typed}", language="bash", wrap_lines=True)


@shell.fragment(run_every=1.0)
def live(job: str) -> None:
    """Progress, curve and the end of the log of one running job."""
    try:
        found = jobs.status(workspace(), job)
    except JobError:
        return
    st.progress(found.share, background.where(found))
    st.caption(f"worked {background.duration(found.state.seconds)}{f' · {found.note}' if found.note else ''}")
    draw(run_of(found))
    show_log(run_of(found), 8)


@shell.fragment(run_every=1.0)
def watch(before: list[tuple[str, str, int]]) -> None:
    """Draws the page again when a job has begun, ended, moved up, or come."""
    if signature(jobs.listed(workspace())) != before:
        entries.draw_again()


def signature(found: list[Status]) -> list[tuple[str, str, int]]:
    return [(one.job.id, one.name, one.position) for one in found]


def draw(run: Run) -> None:
    if figure := background.curve(run):
        st.plotly_chart(figure, key=f"jobs-curve-{run.id}", config={"displayModeBar": False})


def show_log(run: Run, lines: int) -> None:
    if said := reading.said(run.path / "log.txt", lines):
        st.code("\n".join(said), language=None, wrap_lines=True, height=260 if len(said) > 10 else "content")


def ended(found: Status) -> None:
    job, opened = found.job, state.view("job", "") == found.job.id
    with st.container(border=True, key=f"jobs-ended-{job.number}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            heading(found)
            st.markdown(f"{MARKS[found.name]} {found.name}", width="content")
            following.open_result(found, f"jobs-result-{job.number}")
            # a workspace may be somebody else's: no foreign program by a click
            if found.name in RESUMABLE and job.command[0] == "maet":
                st.button("Resume", key=f"jobs-resume-{job.number}", on_click=act(jobs.resume, found))
            st.button(
                "Close" if opened else "Details",
                key=f"jobs-open-{job.number}",
                on_click=state.set_view,
                args=("job", None if opened else job.id),
            )
        if found.state.error:
            st.html(f"<div class='maet-job-error'>{html.escape(found.state.error.splitlines()[-1])}</div>")
        if opened:
            details(found)


def details(found: Status) -> None:
    job, now, run = found.job, found.state, run_of(found)
    charts.numbers(
        (background.duration(now.seconds), f"of work in {now.attempt} {'attempt' if now.attempt == 1 else 'attempts'}"),
        (background.moment(job.submitted), "submitted"),
        (background.moment(now.ended) or "unknown", "ended"),
        ("none" if now.exit_status is None else str(now.exit_status), "exit status"),
    )
    draw(run)
    command(found)
    if job.recipe:
        with st.expander("The recipe as it was"):
            st.code((run.path / "recipe.yaml").read_text("utf-8"), language="yaml")
    if said := reading.said(run.path / "log.txt", 2):
        with st.expander("What it said", expanded=found.name == "failed" and len(said) > 1):
            show_log(run, 200)
    if result := reading.result(run.path / "result.json"):
        with st.expander("What it printed"):
            st.json({name: value for name, value in result.items() if not isinstance(value, list) or len(value) < 100})
    with st.popover("Remove"):
        kept = "Its result stays." if found.name == "done" else "What it left unfinished is removed with it."
        st.write(f"Forget job {job.number}, with its log? {kept}")
        st.button("Remove it", key=f"jobs-remove-{job.number}", on_click=act(jobs.remove, found))


shell.title("Jobs", "Merges, trainings and other long work. It goes on when the browser, or the app, is closed.")
found = jobs.listed(workspace())
going = [one for one in found if one.name not in ENDED]
over = [one for one in found if one.name in ENDED]
if not found:
    st.info(
        "No jobs yet. Saving on Merge starts one, as do locating on Neurons, training on Models, and asking on Evaluate. "
        "In a terminal add `--job` to a command, for example:"
    )
    recipe = f"recipes/{state.recipe_name() or 'mine'}.yaml"
    st.code(
        f"cd {shlex.quote(str(workspace()))}\nmaet merge {shlex.quote(recipe)} -o models/merged --job", language="bash"
    )
    shell.link("merge", "Go to Merge")
if going:
    st.subheader("Running and waiting")
    for one in sorted(going, key=lambda one: (one.name != "running", one.state.place)):
        active(one)
    watch(signature(found))
if over:
    st.subheader("Ended")
    for one in over[:MOST_ENDED]:
        ended(one)
    if len(over) > MOST_ENDED:
        st.caption(f"{len(over) - MOST_ENDED} older ones: `maet jobs` lists them all.")
