"""Laws of networks that foresee tokens: nothing sees what follows, steps give what the whole gives, in torch and in graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.func import functional_call

from tests.catalogue import DECODERS
from tests.combinations import in_graphs
from tests.networks import random_model
from wb.core.architecture import Architecture, axis_sizes
from wb.core.specs import IDS, MASK
from wb.export.decoder import Continuing
from wb.export.graph import export
from wb.export.pasts import PASTS
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.models.axes import Leading, Select, remap
from wb.models.decoding import Decoder, decoded, recalled, started
from wb.models.model import remap_model
from wb.models.named import axes_of
from wb.models.network import build, describe, skeleton

N = 7
every = pytest.mark.parametrize("a", DECODERS.values(), ids=list(DECODERS))
GRAPHS = {name: a for name, a in DECODERS.items() if in_graphs(a)}
IDENTITIES = torch.randint(0, 11, (3, N), generator=torch.Generator().manual_seed(0))


@every
def test_a_network_is_what_its_architecture_says(a: Architecture) -> None:
    assert Architecture.from_json(a.to_json()) == a
    assert describe(build(a)) == a
    network = skeleton(a)
    assert axes_of(network).keys() == dict(network.named_parameters()).keys()
    assert network(torch.empty(2, N, dtype=torch.int64, device="meta")).shape == (2, N, 11)


@every
def test_later_tokens_change_nothing_before(a: Architecture) -> None:
    network = random_model(a).network().double()
    whole = network(IDENTITIES)
    for at in (1, 4):
        other = IDENTITIES.clone()
        other[:, at:] = (other[:, at:] + 1) % 11
        torch.testing.assert_close(network(other)[:, :at], whole[:, :at], rtol=0, atol=1e-12)
        torch.testing.assert_close(network(IDENTITIES[:, :at]), whole[:, :at])
    padded = torch.where(torch.arange(N) < 4, IDENTITIES, -1)
    torch.testing.assert_close(network(padded)[:, :4], whole[:, :4])


@every
def test_steps_give_what_the_whole_gives(a: Architecture) -> None:
    network = random_model(a).network().double()
    whole = network(IDENTITIES)
    for steps in ((N,), (1,) * N, (3, 1, 2, 1)):
        past, before, found = started(network, 3), 0, []
        for step in steps:
            logits, past = decoded(network, IDENTITIES[:, before : before + step], past, before)
            before += step
            found.append(logits)
        torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-9, atol=1e-9)
    assert [tuple(kept.shape) for kept in past] == [one.sized(3, N) for one in recalled(network)]


@every
def test_padding_in_front_of_a_text_changes_nothing(a: Architecture) -> None:
    network = random_model(a).network().double()
    whole = network(IDENTITIES[:, :4])
    noise = torch.randint(0, 11, (3, 2), generator=torch.Generator().manual_seed(1))
    ids, mask = torch.cat([noise, IDENTITIES[:, :4]], dim=1), torch.ones(3, 6, dtype=torch.int64)
    mask[:, :2] = 0
    with torch.no_grad():
        given, *past = Decoder(network)(ids[:, :5], mask[:, :5], *started(network, 3))
        last, *_ = Decoder(network)(ids[:, 5:], mask, *past)
    torch.testing.assert_close(torch.cat([given[:, 2:], last], dim=1), whole, rtol=1e-9, atol=1e-9)


@every
def test_permuted_axes_compute_the_same_and_views_are_networks(a: Architecture) -> None:
    model = random_model(a)
    network, expected = skeleton(a), model.network().double()(IDENTITIES)
    generator = torch.Generator().manual_seed(2)
    for at in network.walk():
        for axis, symmetry in at.operator.symmetries.items():
            assert symmetry in ("permutation", "rotation")
            name = f"{at.place}.{axis}"
            order = torch.randperm(axis_sizes(a)[name], generator=generator)
            twin = remap_model(model, {name: Select(order)})
            torch.testing.assert_close(twin.network().double()(IDENTITIES), expected, rtol=1e-5, atol=1e-5)
    sizes = {name: max(1, size // 2) for name, size in axis_sizes(a).items()}
    small = remap_model(model, {name: Leading(size) for name, size in sizes.items()})
    views = remap(model.weights, axes_of(skeleton(small.architecture)), {n: Leading(size) for n, size in sizes.items()})
    given = functional_call(skeleton(small.architecture), views, IDENTITIES)
    torch.testing.assert_close(given, small.network()(IDENTITIES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("a", GRAPHS.values(), ids=list(GRAPHS))
def test_one_graph_begins_texts_and_continues_them(a: Architecture, tmp_path: Path) -> None:
    model, path = random_model(a), tmp_path / "a.onnx"
    assert export(model, path).value <= 1e-4
    expected = model.network()(IDENTITIES).detach().numpy()
    feed = {IDS: IDENTITIES.numpy(), MASK: np.ones((3, N), np.int64)}
    np.testing.assert_allclose(Runner(path, Device())(feed), expected, rtol=1e-4, atol=1e-4)
    front = {name: np.pad(values[:, :5], ((0, 0), (2, 0))) for name, values in feed.items()}  # padding in front
    if recalled(skeleton(a)):
        np.testing.assert_allclose(Runner(path, Device())(front)[:, 2:], expected[:, :5], rtol=1e-4, atol=1e-4)
    run = Continuing(path, Device(), 3)
    given = [run(IDENTITIES[:, start:end].numpy()) for start, end in ((0, 2), (2, 3), (3, N))]
    np.testing.assert_allclose(np.concatenate(given, axis=1), expected, rtol=1e-4, atol=1e-4)
    graph = onnx.load(path).graph
    assert sum(given.name.startswith(PASTS) for given in graph.input) == len(recalled(skeleton(a)))
    if a.head.model_dump().get("tied"):
        tables = [one for one in graph.initializer if sorted(one.dims) == [8, 11]]
        assert len(tables) == 1
