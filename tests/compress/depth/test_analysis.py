"""The analysis against the network itself: with hooks, with sub-layers really removed, on everything the catalogue knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.catalogue import CATALOGUE, DECODERS
from tests.combinations import COMBINED
from tests.networks import form, prose, random_model
from wb.compress.depth.analysis import DepthAnalysis, analyze_depth, depth_score
from wb.compress.depth.chain import Chain, chosen
from wb.compress.depth.drop import sublayers, without
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption
from wb.data import Split
from wb.data.split import Images
from wb.data.texts.passages import Passages
from wb.models.block import BlockModule
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build, skeleton

EVERY = pytest.mark.parametrize("name", [name for name, a in COMBINED.items() if a.input.usual_tokens is None])
PRE_NORM = pytest.mark.parametrize(
    "name", [name for name, a in CATALOGUE.items() if form(a) == "pre" and a.input.usual_tokens is None]
)
SOME = pytest.mark.parametrize(
    "name",
    [
        "softmax-patch",
        "softmax-stages",
        "softmax-cls",
        "sla-stages",
        "mlp-alone",
        "softmax-post",
        "softmax-post-stages",
    ],
)


def random_split(a: Architecture, count: int = 7) -> Split:
    rng = np.random.default_rng(1)
    images = rng.random((count, a.image.channels, a.image.height, a.image.width), dtype=np.float32)
    return Images(images, rng.integers(a.head.classes, size=count))


def silenced(model: Model, sublayer: str) -> Model:
    """`model` with what `sublayer` and its norm write to the residual stream set to zero, and the gate behind it shut."""
    place, kind = sublayer.rsplit(".", 1)
    i, j = (int(part[1:]) for part in place.split("."))
    parts = (f"stages.{i}.{j}.{kind}.", f"stages.{i}.{j}.{'norm1' if kind == 'mixer' else 'norm2'}.")
    axes = axes_of(build(model.architecture, "meta"))
    writes = {n for n, lie in axes.items() if any(axis == (f"s{i}.embed", "write") for axis in lie)}
    quiet = {
        n: torch.zeros_like(w) for n, w in model.weights.items() if n.startswith(parts) and (n in writes or not axes[n])
    }
    gates = f"stages.{i}.{j}.{'join1' if kind == 'mixer' else 'join2'}.shut"
    quiet |= {n: torch.full_like(w, 1e4) for n, w in model.weights.items() if n == gates}
    return replace(model, weights={**model.weights, **quiet})


def contributions(
    model: Model, images: Tensor, fixed: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """What every operator adds and what it is added to, (B, N, D) each, by hooks; and the class probabilities.

    Operators named in `fixed` add that instead of what they compute.
    """
    network = model.network()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    streams: dict[str, Tensor] = {}
    for i, blocks in enumerate(network.stages):
        modules: Iterable[BlockModule] = blocks  # type: ignore[assignment]
        for j, block in enumerate(modules):
            for kind, norm in (("mixer", "norm1"), ("ffn", "norm2")):
                if getattr(block, kind) is None:
                    continue
                name = f"s{i}.b{j}.{kind}"

                def read(_: object, given: tuple[Tensor], name: str = name) -> None:
                    streams[name] = given[0]

                def wrote(_: object, __: object, added: Tensor, name: str = name) -> Tensor:
                    found[name] = (fixed or {}).get(name, added), streams[name]
                    return found[name][0]

                getattr(block, norm if form(network.architecture) == "pre" else kind).register_forward_pre_hook(read)
                getattr(block, kind).register_forward_hook(wrote)
    with torch.no_grad():
        y = network(images).softmax(dim=1)
    return found, y


@PRE_NORM
def test_a_sublayer_that_writes_nothing_has_no_effect(name: str) -> None:
    """But for post-norm ones, which normalise the stream all the same."""
    model = random_model(CATALOGUE[name])
    for s, sublayer in enumerate(sublayers(model.architecture)[:2]):
        analysis = analyze_depth(silenced(model, sublayer), random_split(model.architecture))
        row = analysis.sublayers[s]
        assert row.name == sublayer
        assert (row.ratio, row.cosine, row.later, row.later_mean) == (0, 0, 0, 0)
        assert (row.output.distance, row.output.most, row.output.kl, row.output.agreement) == (0, 0, 0, 1)
        assert row.output.accuracy == analysis.quality.value
        assert not any(analysis.change_most[s])
        assert not any(analysis.direct_most[s])


@EVERY
def test_skipping_is_removing(name: str) -> None:
    model = random_model(COMBINED[name])
    split = random_split(model.architecture)
    images = torch.from_numpy(split.pixels())
    with torch.no_grad():
        chain = Chain(model.network())
        trace = chain.trace(images)
        assert torch.equal(trace.logits, model.network()(images))
        analysis = analyze_depth(model, split, batch=3)
        assert [row.name for row in analysis.sublayers] == chain.names == sublayers(model.architecture)
        y = trace.logits.softmax(dim=1)
        for s, sublayer in enumerate(chain.names):
            reduced = without(model, sublayer).network()(images)
            torch.testing.assert_close(chain.skip(trace, s).logits, reduced)
            z, effect = reduced.softmax(dim=1), analysis.sublayers[s].output
            distances = ((y - z) ** 2).sum(dim=1).sqrt()
            assert effect.distance == pytest.approx(float(distances.mean()), rel=1e-3, abs=1e-6)
            assert effect.most == pytest.approx(float(distances.max()), rel=1e-3, abs=1e-6)
            assert effect.kl == pytest.approx(float((y * (y / z).log()).sum(dim=1).mean()), rel=1e-2, abs=1e-6)
            assert effect.agreement == pytest.approx(float((y.argmax(1) == z.argmax(1)).float().mean()))
            assert effect.accuracy == pytest.approx(np.mean(z.argmax(1).numpy() == split.labels))


@SOME
def test_contributions_and_changes_are_those_of_the_network(name: str) -> None:
    model = random_model(CATALOGUE[name])
    split = random_split(model.architecture)
    images = torch.from_numpy(split.pixels())
    analysis = analyze_depth(model, split, batch=4)
    names = [row.name for row in analysis.sublayers]
    whole, _ = contributions(model, images)
    for s, row in enumerate(analysis.sublayers):
        c, h = whole[row.name]
        assert row.ratio == pytest.approx(float((c.norm(dim=2) / h.norm(dim=2)).mean()), rel=1e-4)
        assert row.cosine == pytest.approx(float(torch.cosine_similarity(c, h, dim=2).mean()), abs=1e-5)
        reduced, _ = contributions(without(model, row.name), images)
        every = []
        for later, other in enumerate(names):
            if later <= s:
                assert analysis.change_most[s][later] is None
                assert later == s or torch.equal(reduced[other][0], whole[other][0])
                continue
            change = (whole[other][0] - reduced[other][0]).norm(dim=2) / whole[other][0].norm(dim=2)
            assert analysis.change_mean[s][later] == pytest.approx(float(change.mean()), rel=1e-3, abs=1e-5)
            assert analysis.change_most[s][later] == pytest.approx(float(change.max()), rel=1e-3, abs=1e-5)
            every.append(change.flatten())
        assert row.later == pytest.approx(float(torch.cat(every).max()) if every else 0, rel=1e-3)
        assert row.later_mean == pytest.approx(float(torch.cat(every).mean()) if every else 0, rel=1e-3)


@SOME
def test_direct_effects_change_one_input_only(name: str) -> None:
    model = random_model(CATALOGUE[name])
    images = torch.from_numpy(random_split(model.architecture).pixels())
    analysis = analyze_depth(model, random_split(model.architecture))
    chain = Chain(model.network())
    whole, _ = contributions(model, images)
    for s, skipped in enumerate(chain.sublayers):
        for later in range(s + 1, len(chain.sublayers)):
            other = chain.sublayers[later]
            c, _ = whole[other.name]
            between = {sublayer.name: whole[sublayer.name][0] for sublayer in chain.sublayers[s + 1 : later]}
            reduced, _ = contributions(without(model, skipped.name), images, between)
            change = (c - reduced[other.name][0]).norm(dim=2) / c.norm(dim=2)
            assert analysis.direct_mean[s][later] == pytest.approx(float(change.mean()), rel=1e-3, abs=1e-5)
            assert analysis.direct_most[s][later] == pytest.approx(float(change.max()), rel=1e-3, abs=1e-5)
            if later == s + 1:  # what comes next has lost nothing but the contribution
                assert analysis.change_mean[s][later] == pytest.approx(
                    analysis.direct_mean[s][later], rel=1e-3, abs=1e-5
                )


@EVERY
def test_ranges_and_ends(name: str) -> None:
    analysis = analyze_depth(random_model(COMBINED[name]), random_split(COMBINED[name]))
    assert all(0 <= row.influence <= 2 for row in analysis.blocks)
    cosines = [row.cosine for row in analysis.blocks] + [row.cosine for row in analysis.sublayers]
    assert all(-1 <= cosine <= 1 for cosine in cosines)
    assert all(0 <= row.output.distance <= row.output.most <= 2**0.5 for row in analysis.sublayers)
    assert [row.after for row in analysis.lens] == ["stem", *(row.name for row in analysis.sublayers)]
    last = analysis.lens[-1]
    assert (last.kl, last.overlap, last.agreement, last.accuracy) == (0, 1, 1, analysis.quality.value)
    assert analysis.sublayers[-1].later == 0
    for score in analysis.scores.values():
        assert score is None or 1 <= score <= len(analysis.sublayers)
    *_, end = skeleton(COMBINED[name]).walk()
    # The classifier before the last sub-layer is the output without it, but where that is another sum of what was before.
    assert not end.wiring.sums or analysis.lens[-2].kl == pytest.approx(analysis.sublayers[-1].output.kl, abs=1e-6)
    assert DepthAnalysis.model_validate_json(analysis.model_dump_json()) == analysis


def test_the_stream_is_the_sum_of_the_contributions() -> None:
    a = CATALOGUE["softmax-patch"]
    network = random_model(a).network()
    images = torch.from_numpy(random_split(a).pixels())
    with torch.no_grad():
        trace = Chain(network).trace(images)
        total = network.tokens(images) + torch.stack(trace.writes).sum(dim=0)
        torch.testing.assert_close(trace.inputs[-1] + trace.writes[-1], total)
        torch.testing.assert_close(network.answered(total), trace.logits)


@pytest.mark.parametrize("name", ["softmax-patch", "softmax-post"])
def test_blocks_are_mixer_and_feed_forward_together(name: str) -> None:
    a = CATALOGUE[name]
    model, split = random_model(a), random_split(a)
    whole, _ = contributions(model, torch.from_numpy(split.pixels()))
    (added, h), (more, _) = whole["s0.b0.mixer"], whole["s0.b0.ffn"]
    block = analyze_depth(model, split).blocks[0]
    after = h + added + more if form(a) == "pre" else whole["s0.b2.mixer"][1]  # what the next block reads
    assert block.ratio == pytest.approx(float(((after - h).norm(dim=2) / h.norm(dim=2)).mean()), rel=1e-4)
    assert block.cosine == pytest.approx(float(torch.cosine_similarity(after - h, h, dim=2).mean()), abs=1e-5)
    assert block.influence == pytest.approx(1 - float(torch.cosine_similarity(h, after, dim=2).mean()), abs=1e-5)
    assert [row.name for row in analyze_depth(model, split).blocks] == ["s0.b0", "s0.b2"]  # s0.b1 is switched off


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_do_not_matter(batch: int) -> None:
    a = CATALOGUE["sla-stages"]
    model, split = random_model(a), random_split(a)
    calls: list[tuple[int, int]] = []
    one = analyze_depth(model, split, batch=batch, report=lambda done, total: calls.append((done, total)))
    other = analyze_depth(model, split, batch=7)
    for row, same in zip(one.sublayers, other.sublayers, strict=True):
        assert row.ratio == pytest.approx(same.ratio, rel=1e-4)
        assert row.later == pytest.approx(same.later, rel=1e-3)
        assert row.output.most == pytest.approx(same.output.most, abs=1e-5)
    total = -(-7 // batch)
    assert calls == [(i + 1, total) for i in range(total)]


def test_a_network_of_switched_off_blocks() -> None:
    a = CATALOGUE["softmax-stages"]
    off = a.model_copy(update={"stages": tuple(stage.model_copy(update={"blocks": (Block(),)}) for stage in a.stages)})
    model, split = random_model(off), random_split(off)
    analysis = analyze_depth(model, split)
    assert (analysis.sublayers, analysis.blocks, analysis.change_most) == ((), (), ())
    assert [(row.after, row.kl) for row in analysis.lens] == [("stem", 0)]
    assert set(analysis.scores.values()) == {None}
    images = torch.from_numpy(split.pixels())
    assert torch.equal(Chain(model.network()).trace(images).logits, model.network()(images))


def test_the_images_are_spread_over_the_split() -> None:
    labels = np.repeat(np.arange(5), 20)
    split = Images(np.zeros((100, 1, 2, 2), dtype=np.uint8), labels)
    assert np.bincount(chosen(split, 10).labels).tolist() == [2] * 5
    assert chosen(split, None) is split
    assert chosen(split, 100) is split
    with pytest.raises(BadOption, match="a limit of 0 images leaves nothing"):
        chosen(split, 0)
    with pytest.raises(BadOption, match="a batch of 0 images is empty"):
        analyze_depth(random_model(CATALOGUE["mlp-alone"]), random_split(CATALOGUE["mlp-alone"]), batch=0)


def test_depth_score() -> None:
    assert depth_score([1, 1, 1]) == 2
    assert depth_score([0, 0, 5]) == 3
    assert depth_score([0, 0]) is None
    assert depth_score([]) is None


def test_a_token_of_a_short_text_is_as_heavy_as_one_of_a_long_one() -> None:
    """So that the lens behind the last sub-layer says what the whole network costs."""
    a = next(iter(DECODERS.values()))
    vocabulary = prose(a).train.vocabulary
    assert vocabulary is not None
    text = "|".join(" ".join(f"w{(i * j) % 3}" for j in range(i)) for i in range(2, 9))
    found = analyze_depth(random_model(a), Passages.of(text, vocabulary, "the text", "|"), batch=3)
    assert found.lens[-1].nats == pytest.approx(found.whole, rel=1e-5)
