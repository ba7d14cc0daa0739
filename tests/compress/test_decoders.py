"""Passes on networks that foresee tokens: what is left of them foresees, in steps as at once, and sees nothing that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.catalogue import CATALOGUE, DECODERS
from tests.networks import noise, prose, random_model
from wb.compress.convert.teach import OtherMixers
from wb.compress.depth.analysis import analyze_depth
from wb.compress.depth.chain import Chain
from wb.compress.depth.drop import DropLayers
from wb.compress.depth.effect import relative
from wb.compress.nvit.costs import counted
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.nvit.saliency import score
from wb.compress.nvit.settings import Settings
from wb.compress.ptq.subject import of_model
from wb.core.architecture import axis_sizes
from wb.core.precision import with_precisions
from wb.export.decoder import Continuing
from wb.export.graph import export
from wb.export.timing.blocks import parts
from wb.hardware.device import Device
from wb.models.counting import count_macs
from wb.models.decoding import decoded, started
from wb.models.model import Model
from wb.models.passes.untie import untied
from wb.training.refit.distil import Pairs
from wb.training.refit.streams import Streams

IDS = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(0))
A = DECODERS["rotary"]
DATA = prose(A)
SETTINGS = Settings(rounds=2, recovery=2, calibration=24, batch=8, align=1)
FULL = count_macs(A).value


def sound(model: Model) -> None:
    """Checks that later tokens change nothing before, and that steps give what the whole gives."""
    network = model.network()
    with torch.no_grad():
        whole = network(IDS)
        other = torch.cat([IDS[:, :3], (IDS[:, 3:] + 1) % 11], dim=1)
        torch.testing.assert_close(network(other)[:, :3], whole[:, :3])
        assert not torch.equal(network(other)[:, 3:], whole[:, 3:])
        past, found = started(network, 3), []
        for n in range(7):
            logits, past = decoded(network, IDS[:, n : n + 1], past, n)
            found.append(logits)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-4, atol=1e-5)


def pruned(model: Model) -> Model:
    costs = {"macs": counted(model.architecture, "macs")}
    return NViT(DATA, {"macs": 0.6 * count_macs(model.architecture).value}, costs, SETTINGS)(model)


def dropped(model: Model) -> Model:
    return DropLayers(DATA, lambda a: count_macs(a).value < 0.8 * FULL)(model)


def converted(model: Model) -> Model:
    return OtherMixers(DATA, "linear", {"qk": 4}, steps=2)(model)


@pytest.mark.parametrize("change", [pruned, dropped, converted])
def test_what_a_pass_leaves_is_causal_and_continues(change: Callable[[Model], Model]) -> None:
    model = random_model(A)
    left = change(model)
    assert left.architecture != model.architecture
    assert left.architecture.causal
    sound(left)


def test_a_heads_own_weights_are_fitted_behind_a_cut() -> None:
    """At every token; a table that tokens are looked up in stays as it was cut."""
    whole = random_model(DECODERS["softmax-bias-False"])
    left = pruned(whole)
    sound(left)
    kept = NViT(DATA, {}, {}, SETTINGS).compensated(Pruned(random_model(A)), random_model(A))
    assert kept.model.weights.keys() == random_model(A).weights.keys()


def test_nothing_that_is_cut_changes_nothing() -> None:
    model = random_model(A)
    costs = {"macs": counted(A, "macs")}
    passed = NViT(DATA, {"macs": FULL}, costs, SETTINGS.model_copy(update={"rotate": False}))
    assert passed.cut(passed.scored(Pruned(model)), {"macs": FULL}).model is model


def test_channels_that_a_tied_head_alone_reads_are_worth_something() -> None:
    """Their gate is where the head reads them, which its table, as a writer, does not say."""
    model = random_model(A)
    readers = {name for name in model.weights if name.endswith(("gq", "gk", "gv", "up", "gate"))}
    weights = {
        name: torch.cat([torch.zeros_like(w[..., :1]), w[..., 1:]], dim=-1) if name in readers else w
        for name, w in model.weights.items()
    }
    model = replace(model, weights=weights)
    x, y = (torch.from_numpy(part) for part in (DATA.train.inputs(), DATA.train.labels))
    torch.testing.assert_close(untied(model).network()(x), model.network()(x))
    alone, whole = (score(one.network(), [(x, y)], "nvit")["s0.embed"][0] for one in (model, untied(model)))
    assert alone < 1e-12 < whole


def test_depth_is_read_at_every_token() -> None:
    model = random_model(A)
    found = analyze_depth(model, DATA.test, batch=5)
    assert (found.images, found.noun, found.measure, found.classes) == (len(DATA.test), "passages", "nats", 11)
    x = torch.from_numpy(DATA.test.inputs())
    with torch.inference_mode():
        chain = Chain(model.network())
        trace = chain.trace(x)
        skipped = chain.skip(trace, 0).logits.log_softmax(-1)
    assert found.sublayers[0].ratio == pytest.approx(float(relative(trace.writes[0], trace.inputs[0]).mean()), rel=1e-5)
    last = found.lens[-1]
    assert (last.kl, last.agreement, last.accuracy) == (0, 1, None)
    assert last.nats == pytest.approx(found.whole, rel=1e-5)
    labels = torch.from_numpy(DATA.test.labels)
    without = skipped.gather(-1, labels[..., None])
    assert found.sublayers[0].output.nats == pytest.approx(float(-without.mean()), rel=1e-5)


def test_costs_are_timed_for_prompts_and_for_tokens() -> None:
    """Of a token each part is given one, behind the others."""
    for run, tokens in (("latency@prompt", A.input.usual_tokens), ("latency@token", 1)):
        found = list(parts(A, run))
        module, examples, _ = found[1].make()
        assert next(iter(examples.values())).shape[:2] == (2, tokens)
        with torch.no_grad():
            given = module.eval()(*examples.values())
        first = given[0] if isinstance(given, tuple) else given
        assert first.shape == (2, tokens, 8)
    assert len({part.key for run in ("latency@prompt", "latency@token") for part in parts(A, run)}) == 4


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_tied_table_is_stored_once_and_read_in_fewer_bits(precision: str, tmp_path: Path) -> None:
    """Against the network whose table is what the file says."""
    a = A.model_copy(update={"stages": tuple(s.model_copy(update={"embed": 32}) for s in A.stages)})
    model = random_model(a)
    assert of_model(model).options["head"] == ("int4", "int8", "fp32")
    low = replace(model, architecture=with_precisions(a, {"head": precision}))  # type: ignore[dict-item]
    export(low, tmp_path / "low.onnx")
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "low.onnx").graph.initializer}
    bits = stored["network.stem.table_quantized" if precision == "int8" else "network.stem.table_Q4"]
    assert not any(values.dtype == np.float32 and values.size == 11 * 32 for values in stored.values())
    scale = stored["network.stem.table_scales"]
    if precision == "int4":
        halves = np.stack([bits & 15, bits >> 4], axis=2).reshape(11, 32).astype(np.float32) - 8
        table = halves * scale
    else:
        table = bits.astype(np.float32) * scale
    assert np.abs(table - model.weights["stem.table"].numpy()).max() < (0.02 if precision == "int8" else 0.2)
    rounded = replace(model, weights={**model.weights, "stem.table": torch.from_numpy(table)})
    with torch.no_grad():
        wanted = rounded.network()(IDS)
    found = Continuing(tmp_path / "low.onnx", Device(), 3)(IDS.numpy())
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


def test_tables_without_whole_blocks_stay_out_of_four_bits() -> None:
    subject = of_model(random_model(A))
    assert axis_sizes(A)["s0.embed"] == 8
    assert subject.options["head"] == ("int8", "fp32")
    assert subject.continues


def test_a_mixer_is_taught_on_the_tokens_that_count() -> None:
    """Texts with more padding teach the same."""
    a = CATALOGUE["text-softmax"]
    model, data = random_model(a), noise(a)
    ids = torch.from_numpy(data.train.inputs())
    errors = []
    for given in (ids, ids.flip(0)):  # batches of other lengths
        streams = Streams(model, given)
        at = next(streams.walk())
        pairs = Pairs.of(at, streams.states, causal=False)
        assert float(pairs.error(pairs.given(at.operator))) < 1e-10
        errors.append(float(pairs.error(torch.zeros_like(pairs.targets))))
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)
    rows = [row[row >= 0][None] for row in ids]
    with torch.no_grad():
        alone = torch.cat([at.operator(at.read(model.network().begin(row))).flatten(0, 1) for row in rows])
    assert errors[0] == pytest.approx(float(alone.square().mean()), rel=1e-4)
