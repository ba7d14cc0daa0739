"""Networks with early exits for tests: random heads, and gates by which some of any few images leave."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.networks import hybrid, of_digits, random_model
from wb.models.exits.module import Exiting, ExitingNetwork, own, sure
from wb.models.exits.record import Exits, chosen
from wb.models.model import Model

KINDS = {"tokens": of_digits(depth=3), "maps": hybrid()}


@torch.no_grad()
def exiting(model: Model) -> Exiting:
    """`model` with an exit wherever one can be; about half of random images leave by each."""
    record = Exits(after=chosen(model.architecture, (), most=8))
    network = ExitingNetwork(model.network(), record)
    generator = torch.Generator().manual_seed(1)
    for k in range(len(network.exits)):
        nn.init.normal_(network.exit(k).weight, std=0.1, generator=generator)
    found = Exiting(model, record, own(network))
    answers = found.network().everything(images(model, 32))
    middle = [sure(answer).sort().values[15:17].mean() for answer in answers[:-1]]  # of 32: between two
    return found.gated([float(value) for value in middle], 0.1)


def images(model: Model, count: int) -> Tensor:
    """Random images for a model."""
    shape = model.architecture.input.specs()[0].sized(count, 0)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def given(kind: str) -> Exiting:
    """A network of tokens, or of maps and tokens, with exits."""
    return exiting(random_model(KINDS[kind]))
