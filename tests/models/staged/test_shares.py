"""Shares of all sub-layers, each computed in a thread, give what the whole network gives in every wiring."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.catalogue import CATALOGUE
from tests.models.staged.parts import EXACT, batch_of, ran, stored
from tests.networks import exactly, images, joined, of_digits, random_model, wired
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import with_precisions
from wb.core.records import WIRINGS, Mlp, Scale, Softmax, kind_of
from wb.core.records.attention import Rotary
from wb.core.records.ffns import Glu, Tables
from wb.core.records.joins import Gru
from wb.models.network import build
from wb.models.staged.part import Part, packable
from wb.models.staged.pool import Pool
from wb.models.staged.shares import share
from wb.models.staged.spans import spans
from wb.scale.line.sums import Sum, Sums

COUNT = 2


@dataclass
class Table:
    """Where the threads put what they have of a sum."""

    parts: list[list[Tensor]] = field(default_factory=lambda: [[] for _ in range(COUNT)])
    barrier: Barrier = field(default_factory=lambda: Barrier(COUNT, timeout=60))


@dataclass(eq=False)
class Threads(Sums):
    """Sums among threads; they are made when they are asked for, so that whoever asks too early computes with its part."""

    number: int = 0
    table: Table = field(default_factory=Table)
    awaited: int = 0

    @property
    def under_way(self) -> int:
        """How many sums nobody has waited for."""
        return len(self.table.parts[self.number]) - self.awaited

    def begun(self, part: Tensor) -> Sum:
        parts = self.table.parts[self.number]
        parts.append(part.clone())
        return Sum(part, Adding(self, part, len(parts) - 1), self.ranks)


@dataclass(frozen=True)
class Adding:
    sums: Threads
    part: Tensor
    index: int

    def wait(self) -> None:
        self.sums.table.barrier.wait()
        self.part.copy_(torch.stack([parts[self.index] for parts in self.sums.table.parts]).sum(dim=0))
        self.sums.table.barrier.wait()
        self.sums.awaited += 1


def shared(a: Architecture, folder: Path, resident: int | None = None) -> tuple[Tensor, Tensor, list[int]]:
    """What the whole gives and what the shares give, and how many sums were on their way when each sub-layer began."""
    model, inputs = random_model(a), exactly(images(a))
    with torch.inference_mode():
        expected = model.network().double()(inputs)
    given, table = stored(model, folder), Table()
    sums = [Threads((0, 1), None, number=number, table=table) for number in range(COUNT)]
    found: list[Any] = [None] * COUNT
    ahead = list[int]()

    def run(number: int) -> None:
        own = share(a, number, COUNT)
        network = build(own.architecture, "meta").eval()
        for at in network.walk() if number == 0 else ():
            at.operator.register_forward_pre_hook(lambda *_: ahead.append(sums[0].under_way))
        pool = Pool(network, spans(a, 1)[0], given, own, resident, torch.float64)
        found[number] = ran([Part(network, spans(a, 1)[0], pool, sums[number], packable(network))], inputs)
        pool.close()

    threads = [Thread(target=run, args=(number,)) for number in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(found[0], found[1])
    return expected, found[0], ahead


def far(expected: Tensor, found: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


@pytest.mark.parametrize("wiring", [kind_of(one) for one in WIRINGS])
def test_shares_add_up_in_every_wiring(wiring: str, tmp_path: Path) -> None:
    expected, found, ahead = shared(wired(of_digits(depth=3), wiring), tmp_path)
    assert far(expected, found) < EXACT
    overlaps = {"ladder": [0, 1, 1, 1, 1, 1], "parallel": [0, 1, 0, 1, 0, 1]}
    assert ahead == overlaps.get(
        wiring, [0] * 6
    )  # what the one before adds is waited for one sub-layer later, or at once


def test_the_first_block_of_a_ladder_may_read_what_is_added(tmp_path: Path) -> None:
    a = wired(of_digits(depth=2), "ladder")
    stage = a.stages[0].model_copy(update={"wiring": a.stages[0].wiring.model_copy(update={"sequential": True})})
    expected, found, ahead = shared(a.model_copy(update={"stages": (stage,)}), tmp_path)
    assert far(expected, found) < EXACT
    assert ahead == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "block",
    [
        Block(mixer=Softmax(heads=2, qk=3, v=5, bias=False), ffn=Glu(mlp=6)),
        Block(mixer=Softmax(heads=4, qk=3, v=5, scale=0.3), ffn=Glu(mlp=8, bias=True)),
        Block(mixer=Softmax(heads=2, qk=3, v=5), join=Scale.sample()),
        Block(ffn=Mlp(mlp=4), join=Gru.sample()),
        Block(mixer=Softmax(heads=2, qk=3, v=5), ffn=Tables(tables=4, bits=2)),
    ],
)
def test_shares_of_every_operator_add_up(block: Block, tmp_path: Path) -> None:
    a = of_digits(depth=2).with_blocks(lambda *_: block)
    expected, found, _ = shared(a, tmp_path)
    assert far(expected, found) < EXACT


@pytest.mark.parametrize("mixer", [Rotary(heads=2, queries=3, qk=4, v=6, qkv_bias=True), Softmax(heads=2, qk=4, v=6)])
def test_shares_of_texts_add_up_without_their_padding(mixer: Softmax | Rotary, tmp_path: Path) -> None:
    text = CATALOGUE["text-softmax"]
    a = text.with_blocks(lambda _, block: block if block.off else Block(mixer=mixer, ffn=Mlp(mlp=6)))
    expected, found, _ = shared(wired(a, "ladder"), tmp_path)
    assert far(expected, found) < EXACT
    assert batch_of(a, images(a)).lengths is not None


def test_weights_that_come_and_go_are_there_when_sums_are(tmp_path: Path) -> None:
    a = joined(wired(of_digits(depth=5), "ladder"), Scale.sample())
    expected, found, _ = shared(a, tmp_path, resident=12_000 * 8 // 4)
    assert far(expected, found) < EXACT


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(BadOption, match=r"mixer of s0.b0 has 3 heads, which 2 processes cannot divide"):
        share(of_digits(heads=3), 0, 2)
    with pytest.raises(BadOption, match=r"ffn of s0.b0 has 25 \S+ .*2 processes|ffn of s0.b0 has 25 .*2 processes"):
        share(of_digits(mlp=25), 0, 2)
    low = with_precisions(of_digits(), {"s0.b1.ffn.in": "w2"})
    with pytest.raises(Unsupported, match=r"ffn of s0.b1 has weights of one or two bits"):
        share(low, 0, 2)
    with pytest.raises(Unsupported, match=r"mixer 'lmu' of s0.b0 computes nothing that could be divided"):
        share(CATALOGUE["lmu-patch"], 0, 2)
