"""Stages one after the other give what the whole network gives, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest
import torch

from tests.catalogue import CATALOGUE, DECODERS
from tests.models.staged.parts import EXACT, batch_of, continued, parts, ran, stored
from tests.networks import exactly, images, random_model, wired
from wb.models.staged.part import Batch
from wb.models.staged.spans import places

NAMES = sorted(name for name in CATALOGUE if name.startswith("text-") or crc32(name.encode()) % 4 == 0)
WIRED = {f"{kind}-text": wired(CATALOGUE["text-softmax"], kind) for kind in ("ladder", "path_ensemble", "averaged")}
NETWORKS = {name: CATALOGUE[name] for name in NAMES} | {f"decoder-{name}": a for name, a in DECODERS.items()} | WIRED


@pytest.mark.parametrize("name", NETWORKS)
def test_two_stages_are_the_network(name: str, tmp_path: Path) -> None:
    a = NETWORKS[name]
    model, inputs = random_model(a), exactly(images(a))
    with torch.inference_mode():
        expected = model.network().double()(inputs)
    found = ran(parts(stored(model, tmp_path), min(2, len(places(a)))), inputs)
    if expected.dim() == 3:  # of every token: of those that count
        expected, found = expected[inputs >= 0], found[inputs >= 0]
    assert float((found - expected).abs().max()) < EXACT * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("name", DECODERS)
def test_two_stages_continue_a_text_as_the_network_does(name: str, tmp_path: Path) -> None:
    """Whatever comes at a time, with what each sub-layer keeps of the tokens before."""
    a = DECODERS[name]
    model, ids = random_model(a), torch.tensor([[3, 1, 4, 1, 5, 2]])
    with torch.inference_mode():
        expected = model.network().double()(ids)
    found = continued(parts(stored(model, tmp_path), min(2, len(places(a)))), ids, (3, 1, 2))
    assert float((found - expected).abs().max()) < 1e-9 * max(1, float(expected.abs().max()))


def test_padding_is_neither_computed_nor_handed_on(tmp_path: Path) -> None:
    a = CATALOGUE["text-softmax"]
    given, inputs = stored(random_model(a), tmp_path), exactly(images(a, 5))
    batch = batch_of(a, inputs)
    assert batch.lengths is not None
    packed, padded = (parts(given, 2, packs=packs) for packs in (True, False))
    assert packed[1].expected(batch)[1:3] == (1, sum(batch.lengths))
    assert padded[1].expected(batch)[1:3] == (5, max(batch.lengths))
    assert float((ran(packed, inputs) - ran(padded, inputs)).abs().max()) < EXACT


def test_texts_without_tokens_stay_in_their_places(tmp_path: Path) -> None:
    a = CATALOGUE["text-softmax"]
    inputs = torch.tensor([[3, 4], [-1, -1], [5, -1]])
    found = ran(parts(stored(random_model(a), tmp_path), 2), inputs)
    alone = ran(parts(stored(random_model(a), tmp_path), 1), inputs[2:, :1])
    assert float((found[2:] - alone).abs().max()) < EXACT
    assert Batch(1, (0,)).mask is not None
    assert torch.isfinite(found).all()
