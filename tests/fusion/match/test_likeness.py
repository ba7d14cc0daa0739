"""What weights say of copies and of strangers; what is compared of additions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from wb.core.architecture import Block
from wb.core.records import Learned, Mlp, Pool, Position, Sinusoid
from wb.fusion.forms.canonical import canonical
from wb.fusion.match import likeness
from wb.fusion.match.likeness import by_additions, by_weights
from wb.models.axes import Select
from wb.models.model import Model, remap_model
from wb.models.similarity import cka

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def alike(one: Model, other: Model) -> tuple[float, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Of the ends, and the mean over sub-layers of every two blocks of the first stage."""
    found = by_weights(canonical(one), canonical(other))
    return found.ends, found.values[0] / found.counts[0]


def test_a_copy_has_the_same_weights_whatever_the_order(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax, kit.softmax), (kit.softmax,)))
    for copy in (model, kit.permuted(model, 3)):
        ends, values = alike(copy, model)
        assert ends == pytest.approx(1, abs=1e-3)
        assert values.diagonal() == pytest.approx(1, abs=1e-3)
        assert abs(values[0, 1]) < 0.5


@pytest.mark.parametrize(("position", "counts"), [(Learned(), True), (Sinusoid(), False)])
def test_positions_that_are_not_trained_say_nothing_of_strangers(kit: Kit, position: Position, counts: bool) -> None:
    one, other = (kit.model(kit.network(position=position), seed) for seed in range(2))
    shared = replace(one, weights={**one.weights, "position": other.weights["position"]})
    assert (by_weights(shared, other).ends > by_weights(one, other).ends) == counts


def test_the_form_of_heads_does_not_matter(kit: Kit) -> None:
    """Any invertible matrix between queries and keys, values and outputs; the stream as it is."""
    model = kit.model()
    twin = kit.turned(model, 2)
    blocks = {name: weight for name, weight in twin.weights.items() if name.startswith("stages.")}
    assert alike(model, replace(model, weights={**model.weights, **blocks}))[1][0, 0] < 0.9, (
        "the stream was turned, too"
    )
    regauged = dict(model.weights)
    for name in ("stages.0.0.mixer.wv", "stages.0.0.mixer.bv"):
        regauged[name] = 2 * regauged[name]
    regauged["stages.0.0.mixer.wo"] = regauged["stages.0.0.mixer.wo"] / 2
    assert alike(model, replace(model, weights=regauged))[1].diagonal() == pytest.approx(1, abs=1e-6)


def test_a_narrower_copy_is_more_alike_than_anything_else(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,) * 3, embed=(24,)))
    maps = {f"s0.b{j}.mlp": Select(torch.arange(1, 8)) for j in range(3)}
    narrow = remap_model(model, {**maps, "s0.embed": Select(torch.arange(4, 24))})
    ends, values = alike(narrow, model)
    assert ends > 0.8
    assert values.argmax(axis=1).tolist() == [0, 1, 2]
    assert values.diagonal().min() > 0.6
    assert (values - np.diag(values.diagonal())).max() < 0.3


def test_strangers_have_little_in_common(kit: Kit) -> None:
    one, two = (kit.model(kit.network((kit.softmax,) * 2, embed=(32,)), seed=seed) for seed in (1, 2))
    ends, values = alike(one, two)
    assert ends < 0.65
    assert abs(values).max() < 0.3


def test_only_sublayers_with_weights_of_one_kind_count(kit: Kit) -> None:
    bare, pooled = Block(ffn=Mlp(mlp=7)), Block(mixer=Pool(), ffn=Mlp(mlp=7))
    one, two = kit.model(kit.network((kit.softmax, bare, pooled))), kit.model(kit.network((pooled, kit.softmax)))
    assert by_weights(canonical(one), canonical(two)).counts[0].tolist() == [[1, 2], [1, 1], [1, 1]]
    images = kit.pictures(4).double()
    assert by_additions(pooled_only(kit), pooled_only(kit), images)[0] == pytest.approx(1), "but what they add does"


def pooled_only(kit: Kit) -> Model:
    return kit.model(kit.network((Block(mixer=Pool()),)))


@pytest.mark.parametrize("count", [8, 300])
def test_both_are_seen_on_the_same_rows(kit: Kit, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    seen = []

    def spy(x: Tensor, y: Tensor) -> float:
        seen.append((x, y))
        return cka(x, y)

    monkeypatch.setattr(likeness, "cka", spy)
    model = kit.model(kit.network((kit.softmax,), (kit.softmax,)))
    tables = by_additions(model, model, kit.pictures(count))
    assert [table.tolist() for table in tables] == [[[pytest.approx(2)]], [[pytest.approx(2)]]]
    assert [len(x) for x, _ in seen] == [min(2048, count * tokens) for tokens in (16, 16, 4, 4)]
    assert all(torch.equal(x, y) for x, y in seen)


def test_what_is_compared_is_what_each_sublayer_adds(kit: Kit) -> None:
    """Not the stream behind it, in which a large addition would rule."""
    model = kit.model()
    loud, silent = dict(model.weights), dict(model.weights)
    for name in ("stages.0.1.ffn.down", "stages.0.1.ffn.down_bias"):
        loud[name], silent[name] = 100 * model.weights[name], torch.zeros_like(model.weights[name])
    values = [
        by_additions(model, replace(model, weights=other), kit.pictures())[0] for other in (model.weights, loud, silent)
    ]
    assert values[1] == pytest.approx(values[0]), "scale does not count"
    mixer_alone = values[2][1, 1]
    assert (values[0][1, 1], mixer_alone) == (pytest.approx(2), pytest.approx(1))
