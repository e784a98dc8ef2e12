"""What is computed in a shorter way is what the whole model computes, gradients included."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import make_encoder

from nlp_transfer.models import linear_maps
from nlp_transfer.models.linear_maps import fast_linear_maps

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
        found, found_gradients = states_and_gradients(encoder)
        # Elsewhere, and under autocast, a map computes as ever.
        with torch.autocast("cpu", torch.bfloat16):
            assert encoder.encoder.layer[1].output.dense(torch.ones(2, 64)).dtype is torch.bfloat16
        assert copy.deepcopy(encoder).double()(torch.tensor([[3]]))[0].dtype is torch.float64
    assert not any("forward" in vars(module) for module in encoder.modules())
    assert (found - states).abs().max() < 1e-6 * states.abs().max()
    assert set(found_gradients) == set(gradients)
    for name, gradient in gradients.items():
        assert (found_gradients[name] - gradient).abs().max() < 1e-5 * gradient.abs().max(), name
