"""The re-parameterized batch norm against its formula; that its readers take it over in a graph."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.networks import images, normed, of_digits, random_model
from wb.core.records.norms import BatchNorm, RepNorm
from wb.export.graph import export
from wb.models.block import build_norm
from wb.models.groups import settle
from wb.models.norms.base import NormModule


def drawn() -> NormModule:
    norm = build_norm(RepNorm(eps=0.1), 6).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in norm.parameters():
            weight.normal_(generator=generator)
        norm.get_parameter("variance").abs_()
    return norm


def tokens() -> Tensor:
    return torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.mark.parametrize("training", [True, False])
def test_it_is_its_formula(training: bool) -> None:
    norm, x = drawn().train(training), tokens()
    w = {name: weight.tolist() for name, weight in norm.named_parameters()}
    flat = x.flatten(0, 1)
    expected = torch.empty_like(flat)
    for channel in range(6):
        values = flat[:, channel].tolist()
        mean, variance = w["mean"][channel], w["variance"][channel]
        if training:
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
        for i, value in enumerate(values):
            by = (value - mean) / (variance + 0.1) ** 0.5 * w["gain"][channel] + w["shift"][channel]
            expected[i, channel] = by + w["alpha"] * value
    torch.testing.assert_close(norm(x).flatten(0, 1), expected, rtol=1e-9, atol=1e-9)
    image = x.transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(norm(image).flatten(2).transpose(1, 2), norm(x))


def test_it_begins_as_batch_norm_and_what_it_is_given() -> None:
    norm, batch = build_norm(RepNorm(), 6), build_norm(BatchNorm(), 6)
    for one in (norm, batch):
        one.reset()
    x = tokens().float()
    torch.testing.assert_close(norm(x), batch(x) + x)


def test_without_gain_and_shift_it_is_the_identity() -> None:
    norm = build_norm(RepNorm(), 6)
    norm.reset()
    with torch.no_grad():
        norm.gain.zero_()
    assert torch.equal(norm(tokens().float()), tokens().float())


@pytest.mark.parametrize("kind", [RepNorm, BatchNorm])
def test_what_reads_it_takes_it_over(kind: type[RepNorm | BatchNorm], tmp_path: Path) -> None:
    """As an export has it: no norm is left, and the network computes the same."""
    architecture = normed(of_digits(), kind())
    model = random_model(architecture)
    network = model.network().double()
    folded = copy.deepcopy(network)
    settle(folded)
    x = images(architecture, 4).double()
    torch.testing.assert_close(folded(x), network(x), rtol=1e-9, atol=1e-9)
    assert all(not list(at.norm.parameters()) for at in folded.walk())
    assert export(model, tmp_path / "model.onnx").value <= 1e-4
