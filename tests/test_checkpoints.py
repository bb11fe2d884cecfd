"""Checkpoints on disk: names, shapes, ranges and identity, sharded or not, without loading the model."""

import os
import shutil

import pytest
import torch
from models import build, random_tensors, read_model, save_adapter, skeleton, write_model
from safetensors.torch import save_file

from maet_core.checkpoints import Checkpoint, is_adapter, match_tensors
from maet_core.errors import CheckpointError


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "mixed"])
@pytest.mark.parametrize("shards", [1, 4])
def test_what_is_read_is_what_was_written(tmp_path, dtype, shards):
    frame = skeleton("llama")
    tensors = random_tensors(frame.shapes, dtype, 1)
    opened = Checkpoint.open(write_model(tmp_path / "model", frame.config, tensors, shards))
    assert list(opened.tensors) == sorted(tensors)
    assert opened.parameters == sum(tensor.numel() for tensor in tensors.values())
    assert opened.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    assert opened.architecture == "LlamaForCausalLM"
    for name, tensor in tensors.items():
        info = opened.tensors[name]
        assert (info.shape, info.dtype, info.numel, info.nbytes) == (
            tuple(tensor.shape),
            tensor.dtype,
            tensor.numel(),
            tensor.nbytes,
        )
        assert torch.equal(bits(opened.read(name)), bits(tensor))
        # the range of the file that it claims really holds it
        raw = info.file.read_bytes()[info.start : info.stop]
        assert raw == bits(tensor).numpy().tobytes()


def test_ranges_are_flat_and_exact(llama):
    opened = Checkpoint.open(llama.path("base"))
    name = "model.layers.1.mlp.gate_proj.weight"
    whole = llama.tensors["base"][name].reshape(-1)
    for start, stop in ((0, 1), (5, 17), (0, whole.numel()), (whole.numel() - 3, whole.numel()), (7, 7)):
        assert torch.equal(opened.read(name, start, stop), whole[start:stop])


def test_shards_as_transformers_writes_them(tmp_path):
    build("qwen2").save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    opened = Checkpoint.open(tmp_path)
    for name, tensor in read_model(tmp_path).items():
        assert torch.equal(opened.read(name), tensor)


def test_copies_share_an_identity_and_one_changed_bit_makes_another(tmp_path):
    frame = skeleton("llama")
    tensors = random_tensors(frame.shapes, "bfloat16", 1)
    one = Checkpoint.open(write_model(tmp_path / "one", frame.config, tensors)).identity
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert Checkpoint.open(tmp_path / "copy").identity == one
    assert Checkpoint.open(write_model(tmp_path / "sharded", frame.config, tensors, shards=3)).identity == one
    # a single file, and another config beside the same weights, are the same weights
    assert Checkpoint.open(tmp_path / "one" / "model.safetensors").identity == one

    flipped = {name: tensor.clone() for name, tensor in tensors.items()}
    flipped["model.norm.weight"].view(torch.int16)[0] ^= 1
    renamed = {("x" + name if name == "lm_head.weight" else name): tensor for name, tensor in tensors.items()}
    swapped = dict(tensors)
    q, o = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight"
    swapped[q], swapped[o] = swapped[o], swapped[q]
    reshaped = tensors | {"model.norm.weight": tensors["model.norm.weight"].reshape(4, 4)}
    recast = tensors | {"model.norm.weight": tensors["model.norm.weight"].view(torch.float16)}
    negative = {name: tensor.clone() for name, tensor in tensors.items()}
    negative["model.norm.weight"][0] = -0.0
    zero = {name: tensor.clone() for name, tensor in tensors.items()}
    zero["model.norm.weight"][0] = 0.0
    identities = [one]
    for number, variant in enumerate((flipped, renamed, swapped, reshaped, recast, negative, zero)):
        identities.append(Checkpoint.open(write_model(tmp_path / f"v{number}", frame.config, variant)).identity)
    assert len(set(identities)) == len(identities)
    assert all(identity.startswith("xxh3-") and len(identity) == 37 for identity in identities)


def test_an_identity_is_remembered_and_forgotten_when_the_file_changes(tmp_path):
    frame = skeleton("llama")
    folder = write_model(tmp_path / "model", frame.config, random_tensors(frame.shapes, "bfloat16", 1))
    first = Checkpoint.open(folder).identity
    file = folder / "model.safetensors"
    stamp, header = file.stat(), 8 + int.from_bytes(file.read_bytes()[:8], "little")
    # other content behind the same size, inode and time: whoever answers as before has not read it again
    with file.open("r+b") as stream:
        stream.seek(header)
        stream.write(bytes(64))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert Checkpoint.open(folder).identity == first
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert Checkpoint.open(folder).identity != first


def test_a_cache_that_cannot_be_used_costs_nothing_but_time(tmp_path, monkeypatch, llama):
    expected = Checkpoint.open(llama.path("base")).identity
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "file"))
    assert Checkpoint.open(llama.path("base")).identity == expected
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    assert Checkpoint.open(llama.path("base")).identity == expected
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_text("{damaged")
    assert Checkpoint.open(llama.path("base")).identity == expected


def test_opening_reads_headers_and_no_weights(tmp_path):
    """The weights may be absent altogether as long as the file is as long as the header says: holes read as zeros."""
    frame = skeleton("llama")
    folder = write_model(tmp_path / "model", frame.config, random_tensors(frame.shapes, "float32", 1))
    file = folder / "model.safetensors"
    size, header = file.stat().st_size, 8 + int.from_bytes(file.read_bytes()[:8], "little")
    os.truncate(file, header)
    os.truncate(file, size)
    assert Checkpoint.open(folder).tensors["model.norm.weight"].shape == (16,)


# --- what fits what -----------------------------------------------------------------------------------------------


def opened(folder, config, tensors):
    return Checkpoint.open(write_model(folder, config, tensors))


def test_tied_heads_may_be_stored_or_not(tmp_path):
    frame = skeleton("llama", tie_word_embeddings=True)
    without = random_tensors(frame.shapes, "float32", 1)
    embedding = without["model.embed_tokens.weight"]
    with_head = without | {"lm_head.weight": embedding.clone()}
    other_head = without | {"lm_head.weight": embedding + 1}
    small = opened(tmp_path / "without", frame.config, without)
    large = opened(tmp_path / "with", frame.config, with_head)
    other = opened(tmp_path / "other", frame.config, other_head)
    assert set(match_tensors(small, large)) == set(without)
    names = match_tensors(large, small)
    assert names["lm_head.weight"] == "model.embed_tokens.weight"
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        match_tensors(small, other)


def test_buffers_may_be_absent_and_prefixes_differ(tmp_path):
    frame = skeleton("gpt2")
    plain = random_tensors(frame.shapes, "float32", 1)
    old = {name.removeprefix("transformer."): tensor for name, tensor in plain.items()}
    old["h.1.attn.bias"] = torch.tril(torch.ones(1, 1, 64, 64))
    new, hub = opened(tmp_path / "new", frame.config, plain), opened(tmp_path / "hub", frame.config, old)
    assert match_tensors(hub, new)["h.0.ln_1.weight"] == "transformer.h.0.ln_1.weight"
    assert "h.1.attn.bias" not in match_tensors(hub, new)
    assert match_tensors(new, hub)["transformer.h.0.ln_1.weight"] == "h.0.ln_1.weight"


def test_a_missing_tensor_another_shape_and_an_extra_tensor_are_named(tmp_path):
    frame = skeleton("llama")
    tensors = random_tensors(frame.shapes, "float32", 1)
    base = opened(tmp_path / "base", frame.config, tensors)
    name = "model.layers.1.mlp.up_proj.weight"
    lacking = opened(tmp_path / "lacking", frame.config, {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(CheckpointError, match=rf"{name}.*missing"):
        match_tensors(base, lacking)
    with pytest.raises(CheckpointError, match=name):
        match_tensors(lacking, base)
    odd = opened(tmp_path / "odd", frame.config, tensors | {name: torch.zeros(20, 16)})
    with pytest.raises(CheckpointError, match=rf"{name}.*\[20, 16\].*\[24, 16\]"):
        match_tensors(base, odd)
    more = {end: torch.zeros(50, 16) for end in ("lm_head.weight", "model.embed_tokens.weight")}
    bigger = opened(tmp_path / "b", frame.config, tensors | more)
    with pytest.raises(CheckpointError, match=r"vocabulary.*50.*40"):
        match_tensors(base, bigger)


def test_an_adapter_is_told_from_a_model(tmp_path, llama):
    assert not is_adapter(llama.path("base"))
    folder = save_adapter(tmp_path / "adapter", llama.path("base"), r=2, target_modules=["q_proj"])
    assert is_adapter(folder)
    with pytest.raises(CheckpointError, match="adapter"):
        Checkpoint.open(folder)


# --- the hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache on disk with one model in two revisions, as the hub client lays it out."""
    frame = skeleton("llama")
    root = tmp_path / "hub"
    repository = root / "models--tiny--llama"
    versions = {}
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        tensors = random_tensors(frame.shapes, "float32", number)
        write_model(repository / "snapshots" / commit, frame.config, tensors)
        versions[commit] = tensors
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "refs" / "trained").write_text("b" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
    return versions


def test_a_hub_id_is_found_in_the_cache(hub):
    for source, commit in (
        ("tiny/llama", "a" * 40),
        ("tiny/llama@trained", "b" * 40),
        (f"tiny/llama@{'b' * 40}", "b" * 40),
    ):
        model = Checkpoint.open(source)
        assert model.source == source
        assert torch.equal(model.read("model.norm.weight"), hub[commit]["model.norm.weight"])


def test_a_hub_id_that_is_not_there_is_one_clear_error(hub):
    for source in ("tiny/other", "tiny/llama@no-such-branch"):
        with pytest.raises(CheckpointError, match=source):
            Checkpoint.open(source)


def test_a_file_of_several_dtypes_and_empty_tensors(tmp_path):
    tensors = {"a": torch.arange(3), "b": torch.zeros(0, 4), "c": torch.tensor(1.5), "d": torch.tensor([True, False])}
    save_file(tensors, tmp_path / "model.safetensors")
    model = Checkpoint.open(tmp_path)
    for name, tensor in tensors.items():
        assert torch.equal(model.read(name), tensor)
    assert [info.mergeable for info in model.tensors.values()] == [False, True, True, False]
