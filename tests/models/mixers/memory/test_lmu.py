"""The Legendre memory token by token: the same as all tokens at once, and what the published recurrence gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wb.core.errors import Unsupported
from wb.core.layout import Layout
from wb.core.records import Lmu
from wb.models.block import build_operator
from wb.models.mixers.memory.lmu import LegendreMemory


def drawn(*, bidirectional: bool) -> LegendreMemory:
    built = build_operator(Lmu(memory=5, hidden=7, bidirectional=bidirectional), 4, Layout((9,))).double()
    assert isinstance(built, LegendreMemory)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(generator=generator)
    return built


def test_token_by_token_it_is_the_same() -> None:
    module = drawn(bidirectional=False)
    x = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    memory, found = module.start(2), []
    for token in x.unbind(1):
        given, memory = module.step(token, memory)
        found.append(given)
    torch.testing.assert_close(torch.stack(found, dim=1), module(x))


def test_what_sees_the_future_has_no_stream() -> None:
    module = drawn(bidirectional=True)
    with pytest.raises(Unsupported, match="build one with bidirectional=False"):
        module.step(torch.zeros(1, 4).double(), module.start(1))


@pytest.mark.reference
def test_it_is_the_published_recurrence(reference: Path) -> None:
    """Whose memory is given too."""
    data = np.load(reference / "reference/operators/lmu_lmuformer.npz", allow_pickle=False)
    x = torch.from_numpy(data["in.cell_x"]).double()
    weight = torch.from_numpy(data["w.W_h.weight"]).double()  # columns [memory | x]
    built = build_operator(Lmu(memory=8, hidden=16, bidirectional=False), 16, Layout((32,))).double()
    assert isinstance(built, LegendreMemory)
    given = {"wu": data["w.W_u.weight"], "bu": data["w.W_u.bias"], "bh": data["w.W_h.bias"]}
    weights = {name: torch.from_numpy(value).double() for name, value in given.items()}
    weights |= {"wm": weight[:, None, :8], "wx": weight[:, 8:], "out": torch.eye(16).double()}
    built.load_state_dict({**weights, "out_bias": torch.zeros(16).double()})
    memory = built.start(2)
    with torch.no_grad():
        for t, token in enumerate(x.unbind(1)):
            found, memory = built.step(token, memory)
            np.testing.assert_allclose(memory.numpy(), data["out.cell_m_recurrent"][:, t], atol=2e-5)
            np.testing.assert_allclose(found.numpy(), data["out.cell_h_recurrent"][:, t], atol=2e-5)
