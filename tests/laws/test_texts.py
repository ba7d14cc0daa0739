"""Laws of networks for texts: padding changes nothing, whatever its ids, and graphs compute it for any number of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.catalogue import CATALOGUE
from tests.combinations import in_graphs
from tests.networks import random_model
from wb.core.architecture import Architecture
from wb.core.errors import BadData
from wb.core.records import TextInput
from wb.core.specs import IDS, MASK
from wb.export.graph import export
from wb.hardware.device import Device, session
from wb.models.network import skeleton

TEXTS = {name: a for name, a in CATALOGUE.items() if isinstance(a.input, TextInput)}
GRAPHS = {name: a for name, a in TEXTS.items() if in_graphs(a)}
COUNTS = (6, 4, 1, 5)  # tokens of each text
texts = pytest.mark.parametrize("a", TEXTS.values(), ids=list(TEXTS))


def padded(a: Architecture, to: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The same texts padded with random ids to so many tokens, and their mask."""
    own = torch.Generator().manual_seed(1)
    vocabulary = a.input.specs()[0].below or 0
    rows = [torch.randint(0, vocabulary, (count,), generator=own) for count in COUNTS]
    noise = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (len(COUNTS), to), generator=noise)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


@texts
def test_ids_under_padding_and_more_padding_change_nothing(a: Architecture) -> None:
    network = random_model(a).network().double()
    expected = network(*padded(a, max(COUNTS)))
    for seed in (1, 2):
        torch.testing.assert_close(network(*padded(a, max(COUNTS), seed)), expected, rtol=0, atol=0)
    torch.testing.assert_close(network(*padded(a, max(COUNTS) + 1)), expected, rtol=1e-9, atol=1e-9)
    ids, mask = padded(a, max(COUNTS))
    torch.testing.assert_close(network(torch.where(mask == 1, ids, -1)), expected, rtol=0, atol=0)


@texts
def test_padding_in_front_of_a_text_or_within_it_is_refused(a: Architecture) -> None:
    """As positions count it; a text of padding alone is none of this."""
    network = skeleton(a).to_empty(device="cpu")
    for mask in ([0, 1, 1], [1, 0, 1]):
        ids, counts = torch.ones(2, 3, dtype=torch.int64), torch.tensor([[1, 1, 1], mask])
        for given in ((ids, counts), (torch.where(counts == 1, ids, -1),)):
            with pytest.raises(BadData, match="padding stands in front of a text, or within it"):
                network(*given)


@texts
def test_padded_equals_unpadded(a: Architecture) -> None:
    network = random_model(a).network().double()
    ids, mask = padded(a, max(COUNTS))
    together = network(ids, mask)
    for i, count in enumerate(COUNTS):
        torch.testing.assert_close(network(ids[i : i + 1, :count]), together[i : i + 1], rtol=1e-9, atol=1e-9)


@texts
def test_a_text_of_padding_alone_has_finite_answers_and_gradients(a: Architecture) -> None:
    network = random_model(a).network()
    logits = network(torch.full((2, 3), -1))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize("a", GRAPHS.values(), ids=list(GRAPHS))
def test_a_graph_computes_texts_of_any_number_of_tokens_with_and_without_padding(
    a: Architecture, tmp_path: Path
) -> None:
    model = random_model(a)
    assert export(model, tmp_path / "text.onnx").value <= 1e-4
    runtime = session(tmp_path / "text.onnx", Device())
    assert [i.name for i in runtime.get_inputs()] == [IDS, MASK]
    network = model.network()
    for tokens in (6, 7):
        ids, mask = padded(a, tokens)
        given = runtime.run(None, {IDS: ids.numpy(), MASK: mask.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(given), network(ids, mask).detach(), rtol=1e-4, atol=1e-4)
    for tokens in (1, 2, 3):
        ids = torch.randint(0, 9, (2, tokens), generator=torch.Generator().manual_seed(tokens))
        mask = torch.ones_like(ids)
        mask[1, -1] = 0  # one token: a text of padding alone
        given = runtime.run(None, {IDS: ids.numpy(), MASK: mask.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(given), network(ids, mask).detach(), rtol=1e-4, atol=1e-4)
