from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from tests.catalogue import DECODERS, TEXT
from tests.networks import of_digits, random_model
from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.models.mixers.attention.softmax import SoftmaxAttention
from wb.models.network import Network, build, skeleton
from wb.models.norms.rms import RmsNorm as RmsNormModule
from wb.scale.ring.attention import whole
from wb.training.shared.spreading import check_spreads

IDS = torch.randint(0, 11, (2, 16), generator=torch.Generator().manual_seed(0))


def longer(a: Architecture) -> Architecture:
    return a.model_copy(update={"input": TEXT.model_copy(update={"length": 16})})


def spreads(a: Architecture) -> bool:
    """Whether each of its operators says that it computes some of the tokens alone, or keeps nothing of those before."""
    return all(at.operator.spreads or not at.operator.recalls for at in skeleton(a).walk())


SPREAD = {name: longer(a) for name, a in DECODERS.items() if spreads(a)}
OTHERS = [name for name in DECODERS if name not in SPREAD]


@pytest.mark.parametrize("a", SPREAD.values(), ids=list(SPREAD))
def test_a_network_whose_tokens_are_all_here_computes_the_same(a: Architecture) -> None:
    check_spreads(skeleton(a))
    network = random_model(a).network().double()
    plain = network(IDS)
    network.spread = whole()
    torch.testing.assert_close(network(IDS), plain, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(network), gradients(network, plain=True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def gradients(network: Network, *, plain: bool = False) -> list[torch.Tensor]:
    network.spread = None if plain else whole()
    loss = network(IDS).log_softmax(-1)[..., 0].mean()
    return [
        torch.zeros(()) if grad is None else grad
        for grad in torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    ]


@pytest.mark.parametrize("name", OTHERS)
def test_what_goes_on_from_a_state_is_refused(name: str) -> None:
    with pytest.raises(Unsupported, match=r"reads a line in order, and cannot compute some of its tokens alone"):
        check_spreads(skeleton(DECODERS[name]))


def test_what_cannot_be_spread_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"softmax", "rotary", "sliding", "linear"} <= set(SPREAD)
    with pytest.raises(Unsupported, match="for decoders alone"):
        check_spreads(build(of_digits()))
    network = build(SPREAD["softmax"])
    monkeypatch.setattr(RmsNormModule, "local", False)
    with pytest.raises(Unsupported, match=r"norm 'rms' of s0\.b0 takes statistics over all tokens"):
        check_spreads(network)
    monkeypatch.setattr(SoftmaxAttention, "spreads", False)
    with pytest.raises(Unsupported, match=r"mixer 'softmax' of s0\.b0 reads a line in order"):
        check_spreads(network)


def test_a_skeleton_has_the_spread_that_it_is_asked_for() -> None:
    a, spread = SPREAD["softmax"], whole()
    weights = dict(random_model(a).weights)
    given = functional_call(skeleton(a, spread=spread), weights, IDS)
    assert skeleton(a).spread is None
    torch.testing.assert_close(given, functional_call(skeleton(a), weights, IDS))
