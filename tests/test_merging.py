"""The merge as a program: what it writes beside the weights, what it reports, how it stops, and how it goes on."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
import transformers
from models import (
    add_tokenizer,
    child_environment,
    make_family,
    random_tensors,
    read_model,
    sibling,
    skeleton,
    write_model,
)
from safetensors import safe_open

import maet_core
from maet_core.checkpoints import Checkpoint
from maet_core.errors import Cancelled, CheckpointError, OutputError
from maet_core.merging import merge
from maet_core.merging.combine import Combiner
from maet_core.recipe import Recipe


def recipe_of(**changes):
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {"ability": "ability", "source_language": "source", "beta": 0.5, "tensors": {"k2": 60.0}}
            },
            "languages": {"sw": {"checkpoint": "sw"}, "te": {"checkpoint": "te", "mu": 0.5}},
        }
        | changes
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merging")
    make_family(folder, "llama", dtype="bfloat16", seed=4, shards=2, tie_word_embeddings=True)
    add_tokenizer(folder / "base")
    (folder / "base" / "generation_config.json").write_text('{"max_new_tokens": 7}')
    (folder / "base" / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "base" / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "base" / "training_args.bin").write_bytes(b"pickle")
    return folder


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


# --- what is written -----------------------------------------------------------------------------------------------


def test_a_model_s_files_come_along_and_nothing_that_runs(world, tmp_path):
    merge(recipe_of(), world, tmp_path / "out", device="cpu")
    names = set(files_of(tmp_path / "out"))
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors",
    }
    for name in names - {"README.md", "model.safetensors"}:
        assert (tmp_path / "out" / name).read_bytes() == (world / "base" / name).read_bytes()
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("size", ["1KB", "4KB", "9KB", "1MB"])
def test_shards_are_as_small_as_asked_and_hold_everything_once(world, tmp_path, size):
    recipe = recipe_of(output={"shard_size": size})
    merge(recipe, world, tmp_path / "out", device="cpu")
    merge(recipe_of(), world, tmp_path / "whole", device="cpu")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    seen = {}
    for number, shard in enumerate(shards, start=1):
        with safe_open(shard, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        assert not set(tensors) & set(seen)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= recipe.output.shard_bytes
        if len(shards) > 1:
            assert shard.name == f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        seen |= dict.fromkeys(tensors, shard.name)
    whole = read_model(tmp_path / "whole")
    assert set(seen) == set(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in read_model(tmp_path / "out").items())
    if size == "1MB":
        assert [shard.name for shard in shards] == ["model.safetensors"]
        return
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == seen
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    assert Checkpoint.open(tmp_path / "out").identity == Checkpoint.open(tmp_path / "whole").identity


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_another_output_dtype_is_said_in_the_config(world, tmp_path, dtype):
    merge(recipe_of(output={"dtype": dtype}), world, tmp_path / "out", device="cpu")
    assert {tensor.dtype for tensor in read_model(tmp_path / "out").values()} == {getattr(torch, dtype)}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == getattr(torch, dtype)


def test_the_card_says_how_it_was_made(world, tmp_path):
    recipe = recipe_of()
    merge(recipe, world, tmp_path / "out", device="cpu")
    card = (tmp_path / "out" / "README.md").read_text()
    _, block, rest = card.split("---\n", 2)
    assert "base_model: base" in block
    assert Recipe.from_yaml(rest.split("```yaml\n")[1].split("```")[0]) == recipe
    for source in ("base", "ability", "source", "sw", "te"):
        assert f"| `{source}` | `{Checkpoint.open(world / source).identity}` |" in rest
    assert maet_core.__version__ in rest


def test_the_card_s_recipe_makes_the_same_model_again(world, tmp_path):
    merge(recipe_of(), world, tmp_path / "one", device="cpu")
    card = (tmp_path / "one" / "README.md").read_text()
    again = Recipe.from_yaml(card.split("```yaml\n")[1].split("```")[0])
    merge(again, world, tmp_path / "two", device="cpu")
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one.pop("README.md") != two.pop("README.md")  # the title is the folder's name
    assert one == two


@pytest.mark.parametrize("key_neurons", [None, {"k1": 30.0, "granularity": "unit"}])
def test_threads_and_order_make_no_difference(world, tmp_path, monkeypatch, key_neurons):
    ability = {"ability": "ability", "source_language": "source", "beta": 0.5, "tensors": {"k2": 60.0}}
    recipe = recipe_of(abilities={"math": ability | {"key_neurons": key_neurons}})
    outputs = []
    for count in (1, 4):
        monkeypatch.setattr("maet_core.merging.writer.threads", lambda count=count: count)
        merge(recipe, world, tmp_path / f"out{count}", device="cpu")
        outputs.append((tmp_path / f"out{count}" / "model.safetensors").read_bytes())
    assert outputs[0] == outputs[1]


def test_a_tensor_of_many_chunks_is_merged_as_one(tmp_path, monkeypatch):
    """Chunks and blocks that end in the middle of rows: the same bytes as in one piece."""
    make_family(tmp_path, "llama", dtype="bfloat16", hidden_size=48, intermediate_size=80, vocab_size=111)
    recipe = recipe_of(abilities={"math": {"ability": "ability", "key_neurons": {"k1": 30.0, "granularity": "unit"}}})
    merge(recipe, tmp_path, tmp_path / "whole", device="cpu")
    for constant in (
        "merging.combine.CHUNK_ELEMENTS",
        "merging.combine.RANGE_ELEMENTS",
        "kernels.CHUNK_ELEMENTS",
        "kernels.RANGE_ELEMENTS",
    ):
        monkeypatch.setattr(f"maet_core.{constant}", 97)
    monkeypatch.setattr("maet_core.merging.writer.BLOCK_ELEMENTS", 1009)
    merge(recipe, tmp_path, tmp_path / "chunks", device="cpu")
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "chunks" / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_compiled_loops_and_torch_give_the_same_bytes(tmp_path, monkeypatch, dtype):
    """Other devices go through torch; the order of additions is the same, so the result is."""

    make_family(tmp_path, "llama", dtype=dtype, density=0.5)
    keys = {"k1": 30.0, "granularity": "unit"}
    ability = {"ability": "ability", "source_language": "source", "alpha": 0.9, "beta": 0.3, "key_neurons": keys}
    recipe = recipe_of(abilities={"math": ability | {"gamma": 0.7, "tensors": {"k2": 60.0}}}, eta=0.6)
    merge(recipe, tmp_path, tmp_path / "compiled", device="cpu")
    monkeypatch.setattr(Combiner, "_by_kernels", Combiner._by_torch)
    merge(recipe, tmp_path, tmp_path / "torch", device="cpu")
    compiled, by_torch = ((tmp_path / way / "model.safetensors").read_bytes() for way in ("compiled", "torch"))
    assert compiled == by_torch


def test_tensors_that_are_no_numbers_to_add_are_copied(tmp_path):
    frame = skeleton("gpt2")
    base = random_tensors(frame.shapes, "float32", 1)
    extra = {
        "transformer.h.0.attn.bias": torch.tril(torch.ones(1, 1, 64, 64, dtype=torch.bool)),
        "steps": torch.tensor([3, 4]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }
    write_model(tmp_path / "base", frame.config, base | extra)
    write_model(tmp_path / "ability", frame.config, sibling(base, 2) | extra)
    recipe = Recipe.from_dict(
        {"base": "base", "abilities": {"math": {"ability": "ability"}}, "output": {"dtype": "bfloat16"}}
    )
    merge(recipe, tmp_path, tmp_path / "out", device="cpu")
    merged = read_model(tmp_path / "out")
    assert set(merged) == {*base, *extra}
    for name in ("transformer.h.0.attn.bias", "steps"):
        assert torch.equal(merged[name], extra[name])
    assert merged["scalar"].item() == 2.5
    assert merged["empty"].shape == (0, 4)


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_report_s_figures_are_true(world, tmp_path):
    started = time.monotonic()
    report = merge(recipe_of(), world, tmp_path / "out", device="cpu")
    took = time.monotonic() - started
    base, merged = read_model(world / "base"), read_model(tmp_path / "out")
    changed = {name: int((merged[name] != base[name]).sum()) for name in base}
    assert report.output == str(tmp_path / "out")
    assert report.tensors == len(base)
    assert report.tensors_changed == sum(count > 0 for count in changed.values())
    assert report.parameters == sum(tensor.numel() for tensor in base.values())
    assert report.parameters_changed == sum(changed.values())
    assert report.bytes_written == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    weights = sum(tensor.nbytes for tensor in base.values())
    # five models, at least once each; at most twice where similarities are measured first, and the base once more to rank
    assert 5 * weights <= report.bytes_read <= 12 * weights
    assert 0 < report.seconds <= took + 0.01
    assert 10_000_000 < report.peak_bytes <= 1.01 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert report.device == "cpu"


def test_progress_goes_from_nothing_to_all(world, tmp_path):
    told = []
    merge(recipe_of(), world, tmp_path / "out", "cpu", lambda phase, done, total: told.append((phase, done, total)))
    merging = [(done, total) for phase, done, total in told if phase == "merging"]
    assert merging[-1][0] == merging[-1][1] == sum(t.numel() for t in read_model(world / "base").values())
    assert [done for done, _ in merging] == sorted(done for done, _ in merging)


# --- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_merge_that_is_stopped_leaves_nothing(world, tmp_path, after):
    calls = []
    with pytest.raises(Cancelled):
        merge(recipe_of(), world, tmp_path / "new" / "out", "cpu", None, lambda: calls.append(1) or len(calls) > after)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_a_worker_fails_the_merge(world, tmp_path, monkeypatch):
    """Whatever goes wrong in a thread is raised here, and nothing is left."""

    original, calls = Combiner.chunk, []

    def chunk(self, name, start, stop, dtype):
        calls.append(name)
        if len(calls) == 5:
            raise ZeroDivisionError("in a thread")
        return original(self, name, start, stop, dtype)

    monkeypatch.setattr(Combiner, "chunk", chunk)
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        merge(recipe_of(), world, tmp_path / "out", device="cpu")
    assert list(tmp_path.iterdir()) == []


def start_slow_merge(folder, output, delay):
    """`maet merge` in its own process, every chunk of it slowed down, and its journal written after every tensor."""
    program = textwrap.dedent("""
        import signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored
        from maet_core.merging import combine, writer
        original = combine.Combiner.chunk
        def chunk(self, *arguments):
            time.sleep(float(sys.argv[1]))
            return original(self, *arguments)
        combine.Combiner.chunk = chunk
        writer.JOURNAL_SECONDS = 0
        writer.threads = lambda: 1
        from maet_core.cli import main
        main(sys.argv[2:])
    """)
    environment = child_environment(MAET_PROGRESS="lines")
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            str(delay),
            "merge",
            "recipe.yaml",
            "-o",
            str(output),
            "--device",
            "cpu",
            "--json",
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_done(process, output, tensors):
    """Returns once the merge under way has written down that many tensors as done."""
    end = time.monotonic() + 90
    while len(journal_of(output)) < tensors:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def journal_of(output):
    """Tensors that the journal of a merge under way calls done."""
    path = output.with_name(f".{output.name}.partial") / "journal.json"
    try:
        return json.loads(path.read_text())["done"]
    except (OSError, ValueError):
        return {}


@pytest.fixture
def recipe_file(world, tmp_path):
    """A world of its own to merge in: `tmp_path/world/recipe.yaml`."""
    import shutil

    shutil.copytree(world, tmp_path / "world")
    recipe_of().save(tmp_path / "world" / "recipe.yaml")
    return tmp_path / "world" / "recipe.yaml"


def test_a_killed_merge_goes_on_where_it_was(recipe_file, tmp_path):
    folder, output = recipe_file.parent, tmp_path / "out"
    merge(recipe_of(), folder, tmp_path / "straight", device="cpu")
    process = start_slow_merge(folder, output, 0.15)
    wait_until_done(process, output, 5)
    process.kill()
    process.communicate()
    assert not output.exists()
    done = journal_of(output)
    assert 5 <= len(done) < len(read_model(folder / "base"))

    worked_on = []
    with pytest.MonkeyPatch.context() as patch:
        original = Combiner.chunk
        patch.setattr(
            Combiner,
            "chunk",
            lambda self, name, *rest: worked_on.append(name) or original(self, name, *rest),
        )
        report = merge(recipe_of(), folder, output, device="cpu")
    assert not set(worked_on) & set(done)
    assert set(worked_on) | set(done) == set(read_model(folder / "base"))
    straight, resumed = files_of(tmp_path / "straight"), files_of(output)
    straight.pop("README.md"), resumed.pop("README.md")
    assert straight == resumed
    base = read_model(folder / "base")
    changed = {name: int((tensor != base[name]).sum()) for name, tensor in read_model(output).items()}
    assert report.parameters_changed == sum(changed.values())
    assert report.bytes_written == sum(path.stat().st_size for path in output.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "straight", "world"]


def test_after_a_kill_another_recipe_or_input_begins_again(recipe_file, tmp_path):
    folder, output = recipe_file.parent, tmp_path / "out"
    process = start_slow_merge(folder, output, 0.1)
    wait_until_done(process, output, 3)
    process.kill()
    process.communicate()
    other = recipe_of(eta=0.25)
    merge(other, folder, tmp_path / "straight", device="cpu")
    merge(other, folder, output, device="cpu")
    assert files_of(output)["model.safetensors"] == files_of(tmp_path / "straight")["model.safetensors"]


def test_after_a_kill_a_changed_model_begins_again(recipe_file, tmp_path):
    folder, output = recipe_file.parent, tmp_path / "out"
    process = start_slow_merge(folder, output, 0.1)
    wait_until_done(process, output, 3)
    process.kill()
    process.communicate()
    config = json.loads((folder / "sw" / "config.json").read_text())
    changed = sibling(read_model(folder / "base"), 123)
    write_model(folder / "sw", config, changed, shards=2)
    merge(recipe_of(), folder, tmp_path / "straight", device="cpu")
    merge(recipe_of(), folder, output, device="cpu")
    assert files_of(output)["model.safetensors"] == files_of(tmp_path / "straight")["model.safetensors"]


def test_two_writers_of_one_output(recipe_file, tmp_path):
    folder, output = recipe_file.parent, tmp_path / "out"
    process = start_slow_merge(folder, output, 0.1)
    wait_until_done(process, output, 1)
    with pytest.raises(OutputError, match=r"out.*another process"):
        merge(recipe_of(), folder, output, device="cpu")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["output"] == str(output)
    assert Checkpoint.open(output).parameters == Checkpoint.open(folder / "base").parameters


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_and_leaves_nothing(recipe_file, tmp_path, number, status):
    output = tmp_path / "new" / "out"
    process = start_slow_merge(recipe_file.parent, output, 0.1)
    wait_until_done(process, output, 1)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert stdout == ""
    assert "Traceback" not in stderr
    assert all(line.startswith(("progress ", "maet")) for line in stderr.splitlines() if line), stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world"]


def test_a_background_job_that_is_told_to_stop_keeps_what_it_has(recipe_file, tmp_path, monkeypatch):
    """It may be resumed; and the same merge, started again, ends with the bytes of an undisturbed one."""
    output = tmp_path / "out"
    monkeypatch.setenv("MAET_RUN", str(tmp_path / "run"))
    process = start_slow_merge(recipe_file.parent, output, 0.1)
    wait_until_done(process, output, 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not output.exists()
    assert len(journal_of(output)) >= 2
    merge(recipe_of(), recipe_file.parent, output, device="cpu")
    merge(recipe_of(), recipe_file.parent, tmp_path / "straight", device="cpu")
    assert files_of(output)["model.safetensors"] == files_of(tmp_path / "straight")["model.safetensors"]


def test_several_merges_at_once_in_one_process(world, tmp_path):
    reports = {}

    def work(number):
        reports[number] = merge(recipe_of(eta=number / 4), world, tmp_path / f"out{number}", device="cpu")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        merge(recipe_of(eta=number / 4), world, tmp_path / f"alone{number}", device="cpu")
        together = files_of(tmp_path / f"out{number}")["model.safetensors"]
        assert together == files_of(tmp_path / f"alone{number}")["model.safetensors"]
        assert reports[number].parameters_changed > 0


# --- large numbers -------------------------------------------------------------------------------------------------


def test_memory_stays_far_below_the_model(world, tmp_path):
    """Five models of 17 MB, one tensor of 16 MB in each: the merge grows by less than that one tensor in float32."""
    frame = skeleton("llama", num_hidden_layers=1, vocab_size=32768, hidden_size=256, tie_word_embeddings=True)
    for number, member in enumerate(("base", "ability", "source", "sw", "te")):
        write_model(tmp_path / member, frame.config, random_tensors(frame.shapes, "bfloat16", number))
    recipe_of().save(tmp_path / "recipe.yaml")
    program = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from maet_core.merging import merge
        from maet_core.recipe import Recipe
        small, large = map(Path, sys.argv[1:])
        recipe = Recipe.load(large / "recipe.yaml")
        merge(recipe, small, large / "small", device="cpu")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        merge(recipe, large, large / "large", device="cpu")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(world), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    )
    assert int(ended.stdout) < 32_000_000


def test_a_model_that_changes_during_the_merge_is_noticed(world, tmp_path):
    """A NaN that appears only in the last tensor still leaves nothing behind."""
    import shutil

    shutil.copytree(world, tmp_path / "world")
    folder = tmp_path / "world"
    tensors = read_model(folder / "te")
    tensors["model.norm.weight"][-1] = float("nan")
    config = json.loads((folder / "te" / "config.json").read_text())
    write_model(folder / "te", config, tensors, shards=2)
    with pytest.raises(CheckpointError, match=r"te.*model\.norm\.weight.*nan"):
        merge(recipe_of(), folder, tmp_path / "out", device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world"]


def test_a_machine_that_went_down_has_not_kept_what_the_journal_says(tmp_path, monkeypatch):
    """The journal counts on the kernel's memory, which a killed process leaves and a power cut takes."""
    from maet_core.merging import output as outputs

    output = tmp_path / "out"
    path = tmp_path / ".out.partial"
    path.mkdir()
    outputs.Partial(path, "work", sync=True).note({"tensor": 3})
    assert outputs.Partial(path, "work", sync=True).done == {"tensor": 3}
    monkeypatch.setattr(outputs, "_boot", lambda: "another start")
    with outputs.new_directory(output, 1, "work") as partial:
        assert partial.done == {}
        assert list(path.iterdir()) == []
    assert output.is_dir()


def test_not_to_wait_for_the_disk_changes_no_byte(world, tmp_path, monkeypatch):
    merge(recipe_of(), world, tmp_path / "waits", device="cpu")
    monkeypatch.setattr("os.fsync", lambda descriptor: pytest.fail("waited for the disk"))
    merge(recipe_of(), world, tmp_path / "does-not", device="cpu", sync=False)
    same = ("model.safetensors", "config.json")
    assert all((tmp_path / "waits" / n).read_bytes() == (tmp_path / "does-not" / n).read_bytes() for n in same)


def test_a_merge_on_the_cpu_needs_no_torch(recipe_file, tmp_path):
    code = f"""
    import sys
    from maet_core.merging import merge
    from maet_core.recipe import Recipe
    merge(Recipe.load({str(recipe_file)!r}), {str(recipe_file.parent)!r}, {str(tmp_path / "out")!r}, device="cpu")
    assert not {{"torch", "transformers", "pandas"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# --- inputs that change while they are read ------------------------------------------------------------------------


def test_an_input_that_is_cut_short_while_it_is_read_ends_the_merge_with_its_name(tmp_path, monkeypatch):
    make_family(tmp_path, "llama", dtype="float32", seed=4)
    victim, whole = tmp_path / "sw" / "model.safetensors", Combiner.chunk

    def chunk(self, *arguments, **more):
        os.truncate(victim, 100)
        return whole(self, *arguments, **more)

    monkeypatch.setattr(Combiner, "chunk", chunk)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(victim))}: the file ended early"):
        merge(recipe_of(), tmp_path, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
