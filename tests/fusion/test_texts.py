"""Fusion of networks that take texts: copies are found, and padding is in no statistic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.catalogue import CATALOGUE
from tests.networks import exactly, images, random_model
from wb.core.errors import BadData, BadOption, Unsupported
from wb.fusion.forms.compatible import check_images, check_together
from wb.fusion.fuse import fuse
from wb.fusion.match.depth import check_images as check_read
from wb.fusion.match.depth import probes, streams
from wb.fusion.match.likeness import by_additions
from wb.fusion.settings import Settings
from wb.models.axes import Select
from wb.models.model import Model, remap_model

A = CATALOGUE["text-softmax"]


def model(name: str = "text-softmax", seed: int = 0) -> Model:
    found = random_model(CATALOGUE[name], seed, gain=1.0)
    return replace(found, weights={at: exactly(weight) for at, weight in found.weights.items()})


def test_a_permuted_copy_fuses_into_what_it_is_a_copy_of() -> None:
    """Whether weights or activations are compared; averaging without alignment makes another network of them."""
    whole, ids = model(), images(A, 40)
    order = torch.tensor([2, 0, 1, *range(3, A.stages[0].embed)])
    copy = remap_model(whole, {"s0.embed": Select(order)})
    expected = whole.network().double()(ids)
    for settings in ({"method": "perm"}, {"method": "orth", "stat": "activations"}, {"method": "regress"}):
        found = fuse([copy, whole], ["copy", "whole"], Settings.model_validate({**settings, "anchor": 2}), ids)
        close = 1e-3 if settings["method"] == "regress" else 1e-6
        torch.testing.assert_close(found.model.network().double()(ids), expected, rtol=close, atol=close)
    plain = fuse([copy, whole], ["copy", "whole"], Settings(method="vanilla", anchor=2)).model
    assert not torch.allclose(plain.network().double()(ids), expected, atol=1e-2)


@pytest.mark.parametrize("name", ["text-softmax", "text-cls-linear-post"])
def test_more_padding_changes_no_fusion(name: str) -> None:
    one, other = model(name, 1), model(name, 2)
    ids = images(one.architecture, 30)
    more = torch.cat([ids, torch.full((30, 2), -1)], dim=1)
    for settings in ({"method": "regress"}, {"method": "orth", "stat": "activations"}):
        parsed = Settings.model_validate({**settings, "anchor": 1})
        short, long = (fuse([one, other], ["one", "other"], parsed, x).model for x in (ids, more))
        assert not torch.equal(short.weights["stem.table"], one.weights["stem.table"])
        for at, weight in short.weights.items():
            torch.testing.assert_close(long.weights[at], weight, rtol=1e-9, atol=1e-9, msg=at)


def test_streams_and_additions_are_of_the_tokens_that_count() -> None:
    ids = images(A, 6)
    sizes = [batch[0][0].shape[1] for batch in streams(model(), ids)]
    assert sizes == (ids >= 0).sum(dim=1).tolist()
    twins = by_additions(model(), model(), ids)
    more = torch.cat([ids, torch.full((6, 2), -1)], dim=1)
    assert [table.tolist() for table in by_additions(model(), model(), more)] == [table.tolist() for table in twins]


def test_texts_that_a_network_does_not_read_are_refused() -> None:
    for wrong in (torch.zeros(3, 4), torch.zeros(0, 4, dtype=torch.int64), torch.full((3, 4), 99)):
        with pytest.raises(BadOption, match="are not what the model reads; give tokens below 11"):
            check_read(A.input, wrong)
    with pytest.raises(BadData, match="the models read texts of tokens below 11"):
        check_images(torch.zeros(3, 1, 8, 8), A)
    (note,) = check_images(images(A, 1), A)
    assert note.startswith("1 texts have 4 tokens, fewer than the ")
    found = probes(A, 5)
    assert (found.shape, bool((found < 11).all()), bool((found >= 0).all())) == ((5, 4), True, True)


def test_other_vocabularies_and_lengths_are_told_apart() -> None:
    for change, words in (({"vocabulary": 12}, "tokens below 12"), ({"length": 9}, "at most 9 of them")):
        other = A.model_copy(update={"input": A.input.model_copy(update=change)})
        with pytest.raises(Unsupported, match=f"one has texts of .*{words}"):
            check_together([other, A], ["one", "two"], 1)
