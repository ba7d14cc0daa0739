"""Depth of networks that take texts: padding is in no mean."""

from __future__ import annotations

import torch

from tests.catalogue import CATALOGUE
from tests.networks import noise, random_model
from wb.compress.depth.analysis import analyze_depth
from wb.compress.depth.chain import Chain
from wb.compress.depth.effect import relative

A = CATALOGUE["text-softmax"]


def test_means_are_over_the_tokens_that_count() -> None:
    """As found by hand, text by text; batches of any size are the same."""
    model, data = random_model(A), noise(A)
    found = analyze_depth(model, data.test, batch=8)
    assert (found.images, found.noun) == (len(data.test), "texts")
    assert found == analyze_depth(model, data.test, batch=1)
    chain, ratios = Chain(model.network()), list[torch.Tensor]()
    with torch.inference_mode():
        for i in range(len(data.test)):
            ids = torch.from_numpy(data.test.inputs(slice(i, i + 1)))
            assert (ids >= 0).all()
            trace = chain.trace(ids)
            ratios.append(relative(trace.writes[0], trace.inputs[0])[0])
    assert abs(found.sublayers[0].ratio - float(torch.cat(ratios).double().mean())) < 1e-9
    assert len({len(one) for one in ratios}) > 1
