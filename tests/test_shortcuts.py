"""What is computed in a shorter way is what the whole model computes, gradients included."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from tiny_models import make_encoder
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nlp_transfer.config.choices import Pooling
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.mean_pooling import PARTS, with_pooling
from nlp_transfer.models.shortcuts import linear_maps, packing
from nlp_transfer.models.shortcuts.embedding_rows import only_used_rows
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.shortcuts.linear_maps import fast_linear_maps
from nlp_transfer.models.shortcuts.packing import without_padding
from nlp_transfer.models.structure import find_structure

MASK = (torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]).long()
TEXTS = {"input_ids": (torch.arange(28).reshape(4, 7) % 40 + 3) * MASK, "attention_mask": MASK}
Answer = tuple[torch.Tensor, dict[str, torch.Tensor]]


def states_and_gradients(encoder: torch.nn.Module) -> Answer:
    """Hidden states of some tokens, and what the sum of their squares makes of the weights."""
    ids = torch.arange(20).reshape(4, 5) % 40 + 2
    states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    encoder.zero_grad()
    states.square().mul(torch.linspace(0, 1, 32)).sum().backward()
    named = encoder.named_parameters()
    return states.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


@pytest.mark.parametrize("frozen", [False, True])
def test_linear_maps_by_onednn_give_the_same_states_and_gradients(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_encoder("bert", 48).eval()
    if frozen:
        encoder.encoder.layer[0].requires_grad_(False)
    states, gradients = states_and_gradients(encoder)
    monkeypatch.setattr(linear_maps, "onednn_is_faster", torch.backends.mkldnn.is_available)
    with fast_linear_maps(encoder):
        assert "forward" in vars(encoder.encoder.layer[0].output.dense)
        short, short_gradients = states_and_gradients(encoder)
        # Elsewhere, and under autocast, a map computes as ever.
        with torch.autocast("cpu", torch.bfloat16):
            assert encoder.encoder.layer[1].output.dense(torch.ones(2, 64)).dtype is torch.bfloat16
        assert copy.deepcopy(encoder).double()(torch.tensor([[3]]))[0].dtype is torch.float64
    assert not any("forward" in vars(module) for module in encoder.modules())
    assert (short - states).abs().max() < 1e-6 * states.abs().max()
    assert set(short_gradients) == set(gradients)
    for name, gradient in gradients.items():
        assert (short_gradients[name] - gradient).abs().max() < 1e-5 * gradient.abs().max(), name


def make_classifier(architecture: str) -> PreTrainedModel:
    """Three layers and a head with random weights, and biases that are not zero."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(ARCHITECTURES[architecture])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model.eval()


def logits_and_gradients(model: PreTrainedModel) -> Answer:
    """Logits of padded texts, and what their cross-entropy makes of the weights; in float64."""
    model = copy.deepcopy(model).double()
    logits = model(**TEXTS).logits
    model.zero_grad()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0])).backward()
    named = model.named_parameters()
    return logits.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    """The logits of the same texts in float32."""
    with torch.inference_mode():
        return model(**TEXTS).logits


def assert_equal(one: Answer, two: Answer) -> None:
    """Equal within the rounding of float64."""
    assert (one[0] - two[0]).abs().max() < 1e-13 * one[0].abs().max()
    largest = max(gradient.abs().max() for gradient in one[1].values())
    for name in {*one[1], *two[1]}:
        # What gets no gradient in the one may get one of zero in the other.
        gradients = [answer[1].get(name, torch.zeros(())) for answer in (one, two)]
        assert (gradients[0] - gradients[1]).abs().max() < 1e-13 * largest, name


def width_of_states(model: PreTrainedModel) -> torch.Size:
    """The shape of what the encoder says of two texts of three tokens."""
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    return model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].shape


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_gives_its_first_token_alone_and_the_same_logits_and_gradients(
    architecture: str,
) -> None:
    model = make_classifier(architecture)
    whole, logits = logits_and_gradients(model), logits_of(model)
    with shortened(model):
        assert (logits_of(model) - logits).abs().max() < 1e-6 * max(1, logits.abs().max())
        tokens = 3 if architecture.startswith("modernbert") else 1  # which is left whole
        assert width_of_states(model) == (2, tokens, 32)
        assert_equal(whole, logits_and_gradients(model))
    with shortened(model, only_first=False):
        assert width_of_states(model) == (2, 3, 32)
    assert width_of_states(model) == (2, 3, 32)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a.replace("_", "-") in PARTS])
@pytest.mark.parametrize("only_first", [True, False])
def test_the_layer_that_averages_needs_no_matrix_product_and_says_the_same(
    architecture: str, only_first: bool
) -> None:
    plain = Pretrained(make_classifier(architecture), None, None, 64)
    model = with_pooling(plain, Pooling.mean).model.eval()
    layer = model.get_submodule(find_structure(model).layer_prefixes[-1])
    whole = logits_and_gradients(model)
    with shortened(model):  # it learns: its products are made, for the first token
        assert_equal(whole, logits_and_gradients(model))
    layer.requires_grad_(False)
    whole, logits = logits_and_gradients(model), logits_of(model)
    for part in layer.modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_hook(lambda *_: pytest.fail("a matrix product"))
    with shortened(model, only_first):
        assert width_of_states(model) == (2, 1 if only_first else 3, 32)
        assert (logits_of(model) - logits).abs().max() < 1e-6 * max(1, logits.abs().max())
        assert_equal(whole, logits_and_gradients(model))


def test_a_layer_that_averaged_and_has_learned_is_computed() -> None:
    model = make_classifier("bert")
    model = with_pooling(Pretrained(model, None, None, 64), Pooling.mean).model.eval()
    with torch.no_grad():
        model.bert.encoder.layer[-1].output.dense.weight[3, 4] = 0.5
    model.requires_grad_(True)
    model.bert.encoder.layer[-1].requires_grad_(False)
    whole = logits_and_gradients(model)
    with shortened(model):
        assert_equal(whole, logits_and_gradients(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("padded", [True, False])
def test_layers_compute_no_padding_and_give_the_same_logits_and_gradients(
    architecture: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not padded:
        monkeypatch.setitem(TEXTS, "attention_mask", torch.ones_like(MASK))
    model = make_classifier(architecture)
    whole, logits = logits_and_gradients(model), logits_of(model)
    layer = model.get_submodule(find_structure(model).layer_prefixes[1])
    last = [module for module in layer.modules() if type(module) is torch.nn.Linear][-1]
    rows: list[int] = []
    hook = last.register_forward_hook(lambda _, __, x: rows.append(x[..., 0].numel()))
    with without_padding(model):
        assert (logits_of(model) - logits).abs().max() < 1e-6 * max(1, logits.abs().max())
        known = architecture not in ("deberta", "modernbert_first_token", "modernbert_mean")
        assert rows == [16 if padded and known else 28]
        hook.remove()
        assert_equal(whole, logits_and_gradients(model))
    assert torch.equal(logits_of(model), logits)


def test_texts_of_like_length_attend_together(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.array([9, 2, 10, 2, 3, 9])

    def costs(groups: list[np.ndarray], cost: float) -> float:
        return sum(len(texts) * int(lengths[texts].max()) ** 2 + cost for texts in groups)

    for cost, expected in ((0, 4), (20, 3), (50, 2), (np.inf, 1)):
        groups = packing.like_lengths(lengths, cost)
        assert sorted(np.concatenate(groups).tolist()) == list(range(6))
        assert len(groups) == expected
        order = np.argsort(lengths)
        others = [np.split(order, [cut]) for cut in range(1, 6)]
        assert all(costs(groups, cost) <= costs(other, cost) for other in [[order], *others])
    monkeypatch.setattr(packing, "COST_OF_A_GROUP", 0)
    for architecture in ("bert", "distilbert", "mpnet"):
        model = make_classifier(architecture)
        whole = logits_and_gradients(model)
        with without_padding(model) as is_packed:
            assert is_packed
            assert_equal(whole, logits_and_gradients(model))


def test_all_shortcuts_together_give_the_same_logits_and_gradients() -> None:
    plain = Pretrained(make_classifier("bert"), None, None, 64)
    model = with_pooling(plain, Pooling.mean).model.eval()
    model.bert.encoder.layer[-1].requires_grad_(False)
    whole = logits_and_gradients(model)
    with fast_linear_maps(model), shortened(model, only_first=False), without_padding(model):
        assert_equal(whole, logits_and_gradients(model))


def learned(model: PreTrainedModel, steps: int = 12) -> dict[str, torch.Tensor]:
    """All weights after some steps without weight decay of the embeddings."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        ids = torch.roll(TEXTS["input_ids"], step, dims=0)
        loss = model(ids, attention_mask=(ids > 0).long()).logits.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learning_only_the_embeddings_that_occur_gives_the_same_weights_bit_for_bit(
    architecture: str,
) -> None:
    model = make_classifier(architecture).eval()
    other = copy.deepcopy(model)
    ids = TEXTS["input_ids"].numpy()
    whole = learned(model)
    table = other.get_input_embeddings()
    with only_used_rows(other, ids):
        rows = other.get_input_embeddings().weight
        assert len(rows) == len(set(ids.ravel())) < len(table.weight)
        learned(other)
        # A text with other tokens is read as well.
        others = torch.arange(len(table.weight))[None, 30:60]
        assert torch.equal(model(others).logits, other(others).logits)
    assert other.get_input_embeddings() is table
    for name, weight in other.state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_embeddings_that_do_not_learn_or_that_two_parts_hold_stay_whole() -> None:
    model = make_classifier("bert")
    table = model.get_input_embeddings()
    with only_used_rows(model, np.arange(len(table.weight))):  # there is nothing to leave out
        assert model.get_input_embeddings() is table
    model.twin = torch.nn.Linear(1, 1)
    model.twin.weight = table.weight
    with only_used_rows(model, np.array([3])):
        assert model.get_input_embeddings() is table
    del model.twin
    table.weight.requires_grad_(False)
    with only_used_rows(model, np.array([3])):
        assert model.get_input_embeddings() is table
