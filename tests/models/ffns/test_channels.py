"""The scan over channels against its recurrence, number by number; directions; an order that is permuted with the channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.mixers.memory.test_s6 import silu, times
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import EmbedStem, TextInput
from wb.core.records.ffns import ChannelScan
from wb.models.axes import Select, remap
from wb.models.block import build_operator
from wb.models.counting import operator_macs
from wb.models.layers.operator import OperatorModule

EMBED, COUNT = 5, 4
RECORD = ChannelScan(scan_inner=3, scan_state=2, rank=2, kernel=3)
Numbers = list[list[float]]


def drawn(record: ChannelScan = RECORD, embed: int = EMBED) -> OperatorModule:
    """Random weights; the channels are passed in their order."""
    module = build_operator(record, embed, Layout((2, 2))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.7, generator=generator)
        module.get_parameter("order").copy_(torch.arange(embed))
    return module


def tokens(embed: int = EMBED) -> Tensor:
    return torch.randn(2, COUNT, embed, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def passed(w: Mapping[str, Any], channels: Numbers) -> Numbers:
    """What the weights of one direction make of channels one after the other, each a number for every token."""
    before = [times(w["wu"], channel) for channel in channels]
    h, outputs = [[0.0] * RECORD.scan_state for _ in range(RECORD.scan_inner)], []
    for d, channel in enumerate(channels):
        u = []
        for e in range(RECORD.scan_inner):
            seen = [before[d - 2 + i][e] if d - 2 + i >= 0 else 0.0 for i in range(3)]
            u.append(silu(times(w["filters"][e], seen)[0] + w["filters_bias"][e]))
        b, c, down = (times(w[name], u) for name in ("to_b", "to_c", "step_down"))
        steps = [math.log1p(math.exp(z + s)) for z, s in zip(times(w["step_up"], down), w["step_bias"], strict=True)]
        y = []
        for e, gate in enumerate(times(w["wz"], channel)):
            for s in range(RECORD.scan_state):
                h[e][s] = math.exp(-steps[e] * math.exp(w["a_log"][e][s])) * h[e][s] + steps[e] * b[s] * u[e]
            y.append((times([h[e]], c)[0] + w["skip"][e] * u[e]) * silu(gate))
        outputs.append(times(w["out"], y))
    return outputs


def by_recurrence(module: OperatorModule, x: Tensor, directions: tuple[str, ...]) -> Tensor:
    found = []
    for channels in x.transpose(1, 2).tolist():
        y = torch.zeros(len(channels), COUNT, dtype=x.dtype)
        for name in directions:
            w = {n.removeprefix(name): p.tolist() for n, p in module.named_parameters() if n.startswith(name)}
            forth = name == "forth_"
            given = passed(w, channels if forth else channels[::-1])
            y += torch.tensor(given if forth else given[::-1], dtype=x.dtype)
        found.append(y.T)
    return torch.stack(found)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_is_its_recurrence_over_channels(bidirectional: bool) -> None:
    module, x = drawn(RECORD.model_copy(update={"bidirectional": bidirectional})), tokens()
    directions = ("forth_", "back_") if bidirectional else ("forth_",)
    torch.testing.assert_close(module(x), by_recurrence(module, x, directions), rtol=1e-6, atol=1e-6)


def test_one_direction_sees_no_channel_that_follows() -> None:
    other = tokens()
    other[:, :, 2] += 1
    for bidirectional, expected in ((False, [False, False, True, True, True]), (True, [True] * 5)):
        module = drawn(RECORD.model_copy(update={"bidirectional": bidirectional}))
        changed = (module(other) - module(tokens())).abs().amax(dim=(0, 1)) > 1e-9
        assert changed.tolist() == expected


def test_channels_keep_their_places_in_the_scan_wherever_they_lie() -> None:
    """Permuted, and where some are gone: those that are left follow each other."""
    module, x = drawn(), tokens()
    order = torch.tensor([3, 0, 4, 1, 2])
    twin = drawn()
    twin.load_state_dict(remap(dict(module.named_parameters()), module.axes, {"embed": Select(order)}))
    torch.testing.assert_close(twin(x[:, :, order]), module(x)[:, :, order])
    kept = torch.tensor([4, 0, 3])
    small = drawn(embed=3)
    small.load_state_dict(remap(dict(module.named_parameters()), module.axes, {"embed": Select(kept)}))
    plain = drawn(embed=3)
    plain.load_state_dict({**small.state_dict(), "order": torch.arange(3)})
    torch.testing.assert_close(small(x[:, :, kept]), plain(x[:, :, [0, 3, 4]])[:, :, [2, 0, 1]])


def test_it_begins_in_the_order_of_channels_with_published_steps() -> None:
    module = drawn()
    torch.manual_seed(0)
    module.reset()
    assert module.get_parameter("order").tolist() == [0, 1, 2, 3, 4]
    for name in ("forth_", "back_"):
        expected = torch.tensor([1.0, 2.0]).double().expand(3, 2)
        torch.testing.assert_close(module.get_parameter(f"{name}a_log").exp(), expected)
    assert not torch.equal(module.get_parameter("forth_wu"), module.get_parameter("back_wu"))
    for name in module.silencing:
        torch.nn.init.zeros_(module.get_parameter(name))
    assert not module(tokens()).any()


def test_its_maps_are_used_for_every_channel() -> None:
    """For both directions, of five channels: three maps between four tokens and three features, and those of the scan."""
    maps = 3 * COUNT * 3 + 2 * 3 + 2 * 2 * 3 + 3 * 2
    maps += 3 * 3  # filters
    scan = 3 * 2 * 6  # what states give, of places in three chunks of two, one of which is beyond the last channel
    assert operator_macs(RECORD, EMBED, Layout((2, 2))).value == 2 * (EMBED * maps + scan)


def test_texts_of_any_length_refuse_it() -> None:
    stage = Stage(embed=8, blocks=(Block(ffn=RECORD),))
    with pytest.raises(ValueError, match=r"cannot leave out padding"):
        Architecture.model_validate(
            {
                "input": TextInput(vocabulary=11, length=7, tokens=4),
                "stem": EmbedStem(),
                "stages": (stage,),
                "head": {"kind": "classify", "classes": 3},
            }
        )
    assert RECORD.refuses(Layout((7,), dynamic=True)) == "is made for one number of tokens"
    assert RECORD.refuses(Layout((7,), causal=True)) == "sees the tokens that follow"
