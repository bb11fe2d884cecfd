"""Notes of several people in one file: nothing is lost, later rows stand for earlier ones, bad lines are passed over."""

import threading

import pytest

from maet_core.errors import WorkspaceError
from maet_core.notebook import Notebook
from maet_core.workspace import Workspace


@pytest.fixture
def notebook(tmp_path) -> Notebook:
    return Notebook(Workspace.open(tmp_path / "workspace"), "votes")


def test_add_change_and_remove(notebook):
    assert notebook.rows() == []
    first, second = notebook.add({"name": "one"}), notebook.add({"name": "দুই"})
    notebook.change(first, name="uno")
    assert [row["name"] for row in notebook.rows()] == ["uno", "দুই"]
    notebook.change(second, removed=True)
    notebook.change("nobody", name="none")
    assert [row["name"] for row in notebook.rows()] == ["uno"]


def test_people_who_write_at_the_same_time(notebook):
    def write(person: int) -> None:
        for i in range(20):
            notebook.add({"who": person, "what": i})

    threads = [threading.Thread(target=write, args=(person,)) for person in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(row["who"], row["what"]) for row in notebook.rows()} == {(p, i) for p in range(4) for i in range(20)}


def test_lines_that_cannot_be_read_spoil_nothing(notebook):
    notebook.add({"name": "one"})
    with notebook.path.open("ab") as stream:
        stream.write(b'[1]\n"x"\n\xff\n{"id": 3}\n{"id": "cut')
    notebook.add({"name": "two"})
    assert [row["name"] for row in notebook.rows()] == ["one", "two"]


def test_a_file_where_the_folder_belongs_is_one_clear_error(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace")
    (workspace.path / "notebook").write_text("")
    with pytest.raises(WorkspaceError, match=r"^notebook/votes\.jsonl: cannot be written"):
        Notebook(workspace, "votes").add({})
