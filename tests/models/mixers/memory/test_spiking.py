"""The spiking Legendre memory against its formula, neuron by neuron; token by token; and what gradients it has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.memory import SpikingLmu
from wb.models.block import build_operator
from wb.models.mixers.memory.lmu import discretised
from wb.models.mixers.memory.spiking import SpikingMemory, charged, fired

EMBED, COUNT = 4, 9
RECORD = SpikingLmu(memory=5, hidden=7)


def drawn() -> SpikingMemory:
    module = build_operator(RECORD, EMBED, Layout((COUNT,))).double().eval()
    assert isinstance(module, SpikingMemory)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
        for name in module.statistics:
            module.get_parameter(name).abs_().add_(0.1)
    return module


def tokens(seed: int = 1) -> Tensor:
    return 2 * torch.randn(3, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Slow:
    """The published layer of one example, with a list of charges for the neurons of each kind."""

    def __init__(self, module: SpikingMemory) -> None:
        self.w = {name: weight.tolist() for name, weight in module.named_parameters()}
        self.a, self.b = discretised(RECORD.memory, float(COUNT))
        self.charges: dict[str, list[float]] = {}
        self.fires = dict.fromkeys(("seen", "pulse", "remembered", "fired"), 0)

    def norm(self, y: list[float], name: str) -> list[float]:
        by = zip(y, *(self.w[f"{name}_{what}"] for what in ("mean", "variance", "gain", "shift")), strict=True)
        return [(z - mean) / math.sqrt(variance + 1e-5) * gain + shift for z, mean, variance, gain, shift in by]

    def spikes(self, y: list[float], name: str, threshold: float) -> list[float]:
        charges, found = self.charges.setdefault(name, [0.0] * len(y)), []
        for i, z in enumerate(self.norm(y, name)):
            charges[i] += (z - charges[i]) / 2
            found.append(float(charges[i] >= threshold))
            charges[i] = 0.0 if found[-1] else charges[i]
        self.fires[name] += int(sum(found))
        return found

    def product(self, name: str, y: list[float]) -> list[float]:
        return [sum(a * b for a, b in zip(row, y, strict=True)) for row in self.w[name]]

    def __call__(self, x: list[list[float]]) -> list[list[float]]:
        memory, found = np.zeros((RECORD.memory, 1)), []
        self.charges = {}
        for token in x:
            s = self.spikes(token, "seen", 0.5)
            (u,) = self.spikes(self.product("pulse", s), "pulse", 1.0)
            memory = self.a @ memory + self.b * u
            m = self.spikes(memory[:, 0].tolist(), "remembered", 1.0)
            both = zip(self.product("recall", m), self.product("sense", s), strict=True)
            h = self.spikes([one + other for one, other in both], "fired", 1.0)
            found.append(self.norm(self.product("told", h), "told"))
        return found


def test_it_is_its_formula() -> None:
    module, x = drawn(), tokens()
    slow = Slow(module)
    expected = torch.tensor([slow(one) for one in x.tolist()], dtype=x.dtype)
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)
    assert all(count > 0 for count in slow.fires.values()), "neurons of each kind fire"


def test_token_by_token_it_is_the_same() -> None:
    module, x = drawn(), tokens()
    state, found = module.start(3), []
    for token in x.unbind(1):
        given, state = module.step(token, state)
        found.append(given)
    torch.testing.assert_close(torch.stack(found, dim=1), module(x))


def test_norms_are_folded_into_the_weights() -> None:
    module, x = drawn().requires_grad_(False), tokens()
    expected = module(x)
    module.fold()
    torch.testing.assert_close(module(x), expected)
    state = module.start(3)
    given, _ = module.step(x[:, 0], state)
    torch.testing.assert_close(given, expected[:, 0])


def test_no_token_sees_what_follows() -> None:
    module, x = drawn(), tokens()
    other = x.clone()
    other[:, 4:] = tokens(2)[:, 4:]
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert not changed[:4].any()
    assert changed[4:].any()


@pytest.mark.parametrize(("given", "expected"), [(0.9, 0), (1.1, 1), (3.0, 5)])
def test_a_neuron_leaks_fires_and_begins_anew(given: float, expected: int) -> None:
    """Half of what it is given is lost a token: it never fires below the threshold, and fires at once from twice of it on."""
    spikes = fired(torch.full((1, 5, 1), given), 1.0)
    assert int(spikes.sum()) == expected
    assert set(spikes.flatten().tolist()) <= {0.0, 1.0}


def test_the_gradient_of_a_spike_is_that_of_a_sigmoid() -> None:
    given = torch.tensor([[0.4, 2.6]], dtype=torch.float64, requires_grad=True)
    spikes, left = charged(given, torch.zeros_like(given), 1.0)
    assert spikes.tolist() == [[0.0, 1.0]]
    (slopes,) = torch.autograd.grad(spikes.sum(), given, retain_graph=True)
    steep = torch.sigmoid(4 * (given.detach() / 2 - 1))
    torch.testing.assert_close(slopes, 4 * steep * (1 - steep) / 2)
    (kept,) = torch.autograd.grad(left.sum(), given)
    assert kept.tolist() == [[0.5, 0.0]], "what is reset has none"


def test_it_learns() -> None:
    """To tell whether the first token was large, from what the last one is given."""
    torch.manual_seed(0)
    module = build_operator(RECORD, EMBED, Layout((COUNT,))).train()
    module.reset()
    x = torch.randn(64, COUNT, EMBED)
    wanted = (x[:, 0, 0] > 0).float()
    optimizer, losses = torch.optim.Adam(module.parameters(), lr=0.03), []
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x)[:, -1, 0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.66 < losses[0]  # who guesses has 0.69
