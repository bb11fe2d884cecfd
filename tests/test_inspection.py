"""Looking into key neurons, against float64 written here: directions, excitation, overlap, losses."""

import copy
import re
from math import comb

import numpy as np
import pytest
import torch
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import Cancelled, InputError, ScoresError
from maet_core.importance import locate, select_key_neurons
from maet_core.inspection.directions import Unit, strongest, tokens_along, unit_vectors
from maet_core.inspection.excitation import excitations, trace
from maet_core.inspection.losses import Losses, answer_losses
from maet_core.inspection.overlap import Overlap, expected_jaccard, overlaps
from maet_core.resident import load_model, load_tokenizer

TEXTS = [[3, 9, 27, 14], [5, 6], [8, 30, 2, 17, 33, 12], [1, 7, 7]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """opened(architecture): a tiny random float32 model with a word tokenizer, its checkpoint and its tensors."""
    found = {}

    def get(architecture: str, **changes):
        if architecture not in found:
            family = make_family(
                tmp_path_factory.mktemp(architecture), architecture, members=("ability", "sw"), seed=3, **changes
            )
            add_tokenizer(family.path("base"))
            base = Checkpoint.open(family.path("base"))
            found[architecture] = family, base, load_model(base)
        return found[architecture]

    return get


# --- directions ---------------------------------------------------------------------------------------------------


def exact(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def test_an_mlp_unit_reads_by_two_rows_and_writes_by_a_column(opened):
    family, base, _ = opened("llama")
    weights = family.tensors["base"]
    gate, up, down = unit_vectors(base, Unit(1, "down_proj", 7))
    assert [(v.module, v.side) for v in (gate, up, down)] == [
        ("gate_proj", "reads"),
        ("up_proj", "reads"),
        ("down_proj", "writes"),
    ]
    assert torch.equal(gate.weights, weights["model.layers.1.mlp.gate_proj.weight"][7])
    assert torch.equal(up.weights, weights["model.layers.1.mlp.up_proj.weight"][7])
    assert torch.equal(down.weights, weights["model.layers.1.mlp.down_proj.weight"][:, 7])
    final, before = (exact(weights[f"model.{name}.weight"]) for name in ("norm", "layers.1.post_attention_layernorm"))
    written = exact(weights["lm_head.weight"]) @ (final * exact(down.weights))
    read = exact(weights["model.embed_tokens.weight"]) @ (before * exact(gate.weights))
    np.testing.assert_allclose(tokens_along(base, down), written, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tokens_along(base, gate), read, rtol=1e-5, atol=1e-6)
    top = strongest(tokens_along(base, down), 3)
    assert [token.id for token in top] == np.argsort(-written)[:3].tolist()
    assert top[0].deviations == pytest.approx((written.max() - written.mean()) / written.std(), rel=1e-5)
    assert strongest(tokens_along(base, down), 1, lowest=True)[0].id == int(written.argmin())


@pytest.mark.parametrize(
    ("architecture", "module", "index", "name", "pick"),
    [
        ("gpt2", "up_proj", 5, "transformer.h.1.mlp.c_fc.weight", lambda w: w[:, 5]),
        ("gpt2", "k_proj", 2, "transformer.h.1.attn.c_attn.weight", lambda w: w[:, 16 + 2]),
        ("gpt2", "o_proj", 3, "transformer.h.1.attn.c_proj.weight", lambda w: w[3]),
        ("phi3", "up_proj", 4, "model.layers.1.mlp.gate_up_proj.weight", lambda w: w[24 + 4]),
        # each head of GPT-NeoX keeps its own q, k and v rows: unit 5 is the second of the second head
        ("gpt_neox", "q_proj", 5, "gpt_neox.layers.1.attention.query_key_value.weight", lambda w: w[12 + 1]),
        ("mixtral", "down_proj", 6, "model.layers.1.block_sparse_moe.experts.2.w2.weight", lambda w: w[:, 6]),
    ],
)
def test_units_of_fused_transposed_and_expert_matrices(opened, architecture, module, index, name, pick):
    family, base, _ = opened(architecture)
    expert = 2 if architecture == "mixtral" else None
    vectors = {vector.module: vector for vector in unit_vectors(base, Unit(1, module, index, expert))}
    assert vectors[module].tensor == name
    assert torch.equal(vectors[module].weights, pick(family.tensors["base"][name]))


def test_a_tied_head_is_the_embedding(llama):
    base = Checkpoint.open(llama.path("base"))
    (vector,) = unit_vectors(base, Unit(0, "o_proj", 3))
    weights = llama.tensors["base"]
    written = exact(weights["model.embed_tokens.weight"]) @ (
        exact(weights["model.norm.weight"]) * exact(weights["model.layers.0.self_attn.o_proj.weight"][:, 3])
    )
    np.testing.assert_allclose(tokens_along(base, vector), written, rtol=1e-5, atol=1e-6)


# the norms of a layer: before attention, before the MLP, after each (None: there is none), and the final one
NORMS = {
    "llama": ("input_layernorm", "post_attention_layernorm", None, None, "model.norm"),
    "gemma2": (
        *("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm", "post_feedforward_layernorm"),
        "model.norm",
    ),
    "gpt2": ("ln_1", "ln_2", None, None, "transformer.ln_f"),
    "gpt_neox": ("input_layernorm", "post_attention_layernorm", None, None, "gpt_neox.final_layer_norm"),
}


@pytest.mark.parametrize("architecture", list(NORMS))
def test_directions_are_what_the_model_s_own_norms_make_of_them(opened, architecture):
    """A norm is a gain, a shift and a division by a size, which is taken out again here."""
    _, base, model = opened(architecture)
    layer = next(part for name, part in model.named_modules() if re.search(r"\.(layers|h)\.1$", name))
    *own, final = NORMS[architecture]
    attention, mlp, after_attention, after_mlp = (name and getattr(layer, name) for name in own)
    embedding, head = (matrix.weight.detach().double() for matrix in (model.get_input_embeddings(), model.lm_head))

    def normed(module, rows):
        """Through the model's own norm, without its bias; and the sizes that it divided by."""
        rows = rows.double()
        bias = getattr(module, "bias", None)
        out = copy.deepcopy(module).double()(rows).detach() - (0 if bias is None else bias.detach().double())
        centred = rows if bias is None else rows - rows.mean(-1, keepdim=True)
        return out * centred.square().mean(-1, keepdim=True).sqrt()

    for module, norm in (("up_proj", mlp), ("q_proj", attention)):
        vector = next(v for v in unit_vectors(base, Unit(1, module, 3)) if v.module == module)
        expected = normed(norm, embedding) @ vector.weights.double()
        np.testing.assert_allclose(tokens_along(base, vector), expected, rtol=2e-4, atol=1e-4)
    for module, norm in (("down_proj", after_mlp), ("o_proj", after_attention)):
        vector = next(v for v in unit_vectors(base, Unit(1, module, 3)) if v.module == module)
        written = vector.weights.double() if norm is None else normed(norm, vector.weights)
        expected = head @ normed(model.get_submodule(final), written)
        np.testing.assert_allclose(tokens_along(base, vector), expected, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(
    "unit", [Unit(1, "down_proj", 24), Unit(9, "down_proj", 0), Unit(1, "down_proj", 0, 3), Unit(0, "norm", 0)]
)
def test_a_unit_that_is_not_there_is_named(opened, unit):
    with pytest.raises(InputError, match=unit.module):
        unit_vectors(opened("llama")[1], unit)


# --- excitation ---------------------------------------------------------------------------------------------------


def states(model, text, layer):
    """What the layer's MLP takes in, and what its attention does, in float64, by the model's own forward."""
    seen = {}
    layer = model.model.layers[layer]
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0][0].double()}))
        for name, part in (("mlp", layer.mlp), ("o_proj", layer.self_attn.o_proj), ("k_proj", layer.self_attn.k_proj))
    ]
    with torch.no_grad():
        model(torch.tensor([text]))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("module", ["gate_proj", "down_proj", "o_proj", "k_proj"])
def test_excitation_is_what_the_unit_does_in_every_text(opened, module):
    family, base, model = opened("llama")
    weights = {name: tensor.double() for name, tensor in family.tensors["base"].items()}
    expected = []
    for text in TEXTS:
        seen = states(model, text, 1)
        if module == "o_proj":
            expected.append(seen["o_proj"])
        elif module == "k_proj":
            expected.append(seen["k_proj"] @ weights["model.layers.1.self_attn.k_proj.weight"].T)
        else:
            gate, up = (seen["mlp"] @ weights[f"model.layers.1.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
            expected.append(gate * torch.sigmoid(gate) * up)
    found = excitations(model, base, 1, module, TEXTS, rows=3)
    for i, values in enumerate(expected):
        np.testing.assert_allclose(found.highest[i], values.amax(0).numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.lowest[i], values.amin(0).numpy(), rtol=1e-4, atol=1e-5)
    peaks = [float(values[:, 6].max()) for values in expected]
    assert found.texts(6, 4) == np.argsort(np.negative(peaks)).tolist()
    assert found.texts(6, 1, lowest=True) == [int(np.argmin([float(values[:, 6].min()) for values in expected]))]
    without = excitations(model, base, 1, module, TEXTS, ignored={8, 33})
    np.testing.assert_allclose(without.highest[2], expected[2][[1, 2, 3, 5]].amax(0).numpy(), rtol=1e-4, atol=1e-5)
    assert not excitations(model, base, 1, module, [[8, 8]], ignored={8}).highest.any()
    line = trace(model, base, Unit(1, module, 6), TEXTS[2])
    np.testing.assert_allclose(line, expected[2][:, 6].numpy(), rtol=1e-4, atol=1e-5)


def test_a_fused_matrix_gives_its_own_part(opened):
    family, base, model = opened("gpt2")
    weights = family.tensors["base"]
    found = excitations(model, base, 0, "v_proj", [[4, 5, 6]])
    text = torch.tensor([4, 5, 6])
    state = weights["transformer.wte.weight"][text].double() + weights["transformer.wpe.weight"][:3].double()
    state = torch.nn.functional.layer_norm(
        state, (16,), weights["transformer.h.0.ln_1.weight"].double(), weights["transformer.h.0.ln_1.bias"].double()
    )
    fused = state @ weights["transformer.h.0.attn.c_attn.weight"].double()
    fused = fused + weights["transformer.h.0.attn.c_attn.bias"].double()
    np.testing.assert_allclose(found.highest[0], fused[:, 32:].amax(0).numpy(), rtol=1e-4, atol=1e-5)


def test_listening_can_be_stopped_and_leaves_no_hook(opened):
    _, base, model = opened("llama")
    with pytest.raises(Cancelled):
        excitations(model, base, 0, "up_proj", TEXTS, rows=1, halted=lambda: True)
    excitations(model, base, 0, "up_proj", TEXTS)
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in model.modules())
    with pytest.raises(InputError, match="cannot be listened to"):
        excitations(model, base, 0, "nonsense", TEXTS)


# --- overlap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "total"), [(3, 4, 10), (10, 4, 10), (1, 1, 50), (40, 45, 60), (120, 7, 300), (0, 3, 9)]
)
def test_expected_jaccard_is_the_sum_over_all_cases(a, b, total):
    cases = comb(total, b)
    exact = sum(
        comb(a, i) * comb(total - a, b - i) / cases * (i / (a + b - i))
        for i in range(max(0, a + b - total), min(a, b) + 1)
        if a + b - i
    )
    assert expected_jaccard(a, b, total) == pytest.approx(exact, rel=1e-12)


def test_expected_jaccard_of_a_whole_model():
    count, total = 350_000_000, 7_000_000_000
    share = count / total
    assert expected_jaccard(count, count, total) == pytest.approx(share / (2 - share), rel=1e-6)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_overlaps_count_what_the_masks_share(opened, granularity):
    family, base, _ = opened("llama")
    models = Models(base, family.folder)
    sets = [
        select_key_neurons(locate("value-change", base, models.open(name), granularity), 10.0)
        for name in ("ability", "sw")
    ]
    sets.append(select_key_neurons(locate("random", base, granularity=granularity), 20.0))
    found = overlaps(sets)
    assert sorted(found) == [(0, 1), (0, 2), (1, 2)]
    for (i, j), overlap in found.items():
        masks = [
            np.concatenate([sets[k].neurons(name).numpy().ravel() for name in sets[k].scores.shapes]) for k in (i, j)
        ]
        common, either = int((masks[0] & masks[1]).sum()), int((masks[0] | masks[1]).sum())
        assert overlap == Overlap(int(masks[0].sum()), int(masks[1].sum()), common, len(masks[0]))
        assert overlap.jaccard == pytest.approx(common / either)
    assert found[0, 2].jaccard == pytest.approx(found[0, 2].random_jaccard, abs=0.08)


def test_sets_of_different_things_are_not_compared(opened):
    _, base, _ = opened("llama")
    sets = [select_key_neurons(locate("random", base, granularity=g), 5.0) for g in ("parameter", "unit")]
    with pytest.raises(ScoresError, match="granularity"):
        overlaps(sets)


# --- losses -------------------------------------------------------------------------------------------------------

PAIRS = [("t3 t4 t5", " t6 t7"), ("t9", " t8"), ("", "t11 t12 t13 t14"), ("t30 t31", " t3 t3 t3 t3 t3")]


def test_losses_are_minus_log_p_of_the_answers(opened):
    _, base, model = opened("llama")
    tokenizer = load_tokenizer(base)
    losses = answer_losses(model, tokenizer, PAIRS, rows=3)
    for i, (prompt, answer) in enumerate(PAIRS):
        ids = [int(word[1:]) for word in (prompt + answer).split()] + [2]
        first = len(prompt.split()) or 1
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        logs = (logits - logits.logsumexp(-1, keepdim=True)).numpy()
        expected = [-logs[position - 1, ids[position]] for position in range(first, len(ids))]
        assert losses.tokens[i] == len(expected)
        assert losses.sums[i] == pytest.approx(sum(expected), rel=1e-5)
    mean = losses.mean()
    assert (mean.texts, mean.tokens) == (4, int(losses.tokens.sum()))
    assert mean.value == pytest.approx(losses.sums.sum() / losses.tokens.sum())


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        tokens = generator.integers(3, 30, 60)
        level = generator.normal(2.0, 0.5, 60)  # texts differ: their tokens are not independent
        mean = Losses(tokens * level, tokens).mean()
        hits += abs(mean.value - 2.0) <= mean.interval
    assert 0.91 < hits / 400 < 0.98


def test_changes_are_paired():
    before = Losses(np.array([10.0, 200.0, 3000.0]), np.array([10, 20, 30]))
    after = Losses(before.sums + 0.5 * before.tokens, before.tokens)
    change = after.change_from(before)
    assert (change.value, change.interval) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-9))
    assert before.mean().interval > 1
    with pytest.raises(ValueError, match="different texts"):
        after.change_from(Losses(before.sums, before.tokens + 1))


def test_texts_without_an_answer_within_the_limit_do_not_count(opened):
    _, base, model = opened("llama")
    tokenizer = load_tokenizer(base)
    long = (" ".join(["t5"] * 40), " t6")
    assert answer_losses(model, tokenizer, [long, PAIRS[0]], most_tokens=30).mean().texts == 1
    with pytest.raises(InputError, match="no text"):
        answer_losses(model, tokenizer, [long], most_tokens=30)
    with pytest.raises(InputError, match="no text"):
        answer_losses(model, tokenizer, [])
