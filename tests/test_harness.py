"""The EleutherAI harness on a model in memory, and our figures beside its on the same model and protocol."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from maet_core.evaluation.asking import Ask, ask_items
from maet_core.evaluation.prompts import Protocol
from maet_core.evaluation.questions import Question
from maet_core.evaluation.tasks import Task, load_task

pytest.importorskip("lm_eval")

DEMO = Path(__file__).parents[1] / "assets" / "demo"
# As the harness's own MGSM tasks are made, on local questions: the question's label, "Answer:", both filters.
YAML = """\
task: local_mgsm_sw
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: generate_until
target_delimiter: ""
doc_to_text: '{{{{"Swali: "+question+"\\nAnswer:"}}}}'
doc_to_target: '{{{{answer}}}}'
generation_kwargs:
  until: ["Swali:", "</s>", "<|im_end|>"]
  do_sample: false
  max_gen_toks: 24
filter_list:
  - name: flexible-extract
    filter:
      - {{function: regex, group_select: -1, regex_pattern: '(-?[$0-9.,]{{2,}})|(-?[0-9]+)'}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}}
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    rows = [
        {"question": item.question, "answer": item.answer}
        for item in load_task("demo-math:dev", ["sw"], limit=16).items
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "local.yaml").write_text(YAML.format(file=folder / "rows.jsonl"))
    return folder


def test_our_figures_agree_with_the_harness(tasks):
    from maet_core.evaluation.harness import run_harness

    model = transformers.AutoModelForCausalLM.from_pretrained(DEMO / "models" / "math-en", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO / "models" / "math-en")
    (figure,), samples = run_harness(model, tokenizer, ["local_mgsm_sw"], 8, task_folder=tasks)
    rows = [json.loads(line) for line in (tasks / "rows.jsonl").read_text().splitlines()]
    task = Task(
        "local",
        "local",
        tuple(Question(f"{i:02d}", "sw", row["question"], answer=row["answer"]) for i, row in enumerate(rows)),
    )
    ours = ask_items(model, tokenizer, Ask(task, Protocol("direct", max_new_tokens=24)), task.items, batch_rows=8)
    theirs = sorted(samples["local_mgsm_sw"], key=lambda sample: sample["doc_id"])
    assert [sample["arguments"][0][0] for sample in theirs] == [row["prompt"] for row in ours]
    assert [sample["resps"][0][0].strip() for sample in theirs] == [row["text"] for row in ours]
    assert figure.n == len(ours)
    assert figure.value == pytest.approx(sum(row["right"] for row in ours) / len(ours))


def test_the_command(maet, tasks, tmp_path):
    model = DEMO / "models" / "math-en"
    told = maet(
        "evaluate",
        model,
        "--harness",
        "local_mgsm_sw",
        "--harness-tasks",
        tasks,
        "--limit",
        "2",
        "-o",
        tmp_path / "r",
        "--json",
    )
    assert told.status == 0, told.stderr
    (row,) = json.loads(told.stdout)["harness"]
    assert (row["model"], row["task"], row["n"]) == ("math-en", "local_mgsm_sw", 2)
    assert len(json.loads((tmp_path / "r" / "math-en.harness.json").read_text())["samples"]["local_mgsm_sw"]) == 2
    told = maet("evaluate", model, "--harness", "x", "--task", "demo-math")
    assert "leave out --task" in told.stderr
