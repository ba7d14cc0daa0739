"""TNT's inner transformer against its formula, number by number, and that tokens do not see each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.ffns import Words
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule

EMBED, WORDS, CHANNELS = 5, 3, 4
RECORD = Words(word_mlp=6, words=WORDS, word_channels=CHANNELS, word_heads=2, word_qk=2, word_v=3)


def drawn(record: Words = RECORD) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((1, 4), 1)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.7, generator=generator)
    return module


def tokens() -> Tensor:
    return torch.randn(2, 5, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def normed(y: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return (y - y.mean()) / (y.var(correction=0) + 1e-5).sqrt() * gain + shift


@pytest.mark.parametrize("scale", [None, 0.7])
def test_it_is_its_formula(scale: float | None) -> None:
    module, x = drawn(RECORD.model_copy(update={"word_scale": scale})), tokens()
    w, factor = {name: weight.detach() for name, weight in module.named_parameters()}, scale or 2**-0.5
    expected = []
    for token in x.flatten(0, 1):
        words = [w["word"][m] @ token + w["word_bias"][m] for m in range(WORDS)]
        seen = [normed(word, w["first_gain"], w["first_shift"]) for word in words]
        for m in range(WORDS):
            given = w["word_out_bias"].clone()
            for h in range(2):
                q = w["word_query"][h] @ seen[m]
                shares = [math.exp(factor * float(q @ (w["word_key"][h] @ other))) for other in seen]
                for share, other in zip(shares, seen, strict=True):
                    given += share / sum(shares) * w["word_out"][:, h] @ (w["word_value"][h] @ other)
            words[m] = words[m] + given
        for m in range(WORDS):
            up = w["word_up"] @ normed(words[m], w["second_gain"], w["second_shift"]) + w["word_up_bias"]
            gelu = torch.stack([z * (1 + math.erf(float(z) / math.sqrt(2))) / 2 for z in up])
            words[m] = words[m] + w["word_down"] @ gelu + w["word_down_bias"]
        joint = w["word_joint"].flatten(1) @ normed(torch.stack(words), w["joint_gain"], w["joint_shift"]).flatten()
        expected.append(normed(joint, w["outer_gain"], w["outer_shift"]))
    torch.testing.assert_close(module(x).flatten(0, 1), torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_tokens_do_not_see_each_other() -> None:
    module, x = drawn(), tokens()
    other = x.clone()
    other[:, 2] += torch.arange(EMBED)
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


def test_without_the_map_to_the_stream_it_adds_the_shift_of_the_last_norm() -> None:
    """So that a block is what it is without words, once that is zero."""
    module = drawn()
    with torch.no_grad():
        module.get_parameter("word_joint").zero_()
    torch.testing.assert_close(module(tokens()), module.get_parameter("outer_shift").expand(2, 5, EMBED))
