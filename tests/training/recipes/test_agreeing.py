"""R-Drop: the published formula; copies that answer alike change nothing; a network learns what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.tasks.base import Task
from wb.tasks.classes import CLASSES
from wb.tasks.next import NEXT
from wb.training.fit import Batch, Recipe
from wb.training.recipes.agreeing import divergence
from wb.training.recipes.losses import distilled

Shape = tuple[int, ...]
SHAPES: dict[str, tuple[Task, Shape, Shape]] = {
    "classes": (CLASSES, (6, 5), (6,)),
    "next": (NEXT, (6, 4, 5), (6, 4)),
}


@pytest.fixture(params=SHAPES)
def drawn(request: pytest.FixtureRequest) -> tuple[Task, Tensor, Tensor, Tensor]:
    """A task, the answers of two runs in float64, and labels."""
    task, shape, labels = SHAPES[request.param]
    generator = torch.Generator().manual_seed(1)
    both = torch.randn(2, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
    return task, both, both.flatten(0, 1), torch.randint(0, 5, labels, generator=generator)


def test_a_divergence_is_that_of_torch(drawn: tuple[Task, Tensor, Tensor, Tensor]) -> None:
    task, both, _, _ = drawn
    one, other = both.flatten(1, -2).log_softmax(-1)
    expected = F.kl_div(one, other, log_target=True, reduction="none").sum(-1).mean()
    torch.testing.assert_close(divergence(both[0], both[1], task), expected)


@pytest.mark.parametrize("taught", [False, True])
def test_the_loss_is_half_of_the_published_one(drawn: tuple[Task, Tensor, Tensor, Tensor], taught: bool) -> None:
    task, both, outputs, labels = drawn
    target = both[1].detach() * 2
    recipe = Recipe(label_smoothing=0.1, rdrop=3.0)
    own = distilled(lambda _: outputs, (lambda _: target) if taught else None, recipe, task)
    found = own(Batch(torch.zeros(len(both[0])), labels, 0, 1))
    (gradient,) = torch.autograd.grad(_published(both, labels, target if taught else None, task), both)
    assert both.grad is not None
    torch.testing.assert_close(both.grad, gradient / 2)
    assert found == pytest.approx(_published(both, labels, target if taught else None, task).item() / 2)


def _published(both: Tensor, labels: Tensor, target: Tensor | None, task: Task) -> Tensor:
    """Equation 3, of the task's loss or of its mean with distillation."""
    losses = [task.loss(one, labels, 0.1) for one in both]
    if target is not None:
        losses = [(loss + task.distillation(one, target, 2.0)) / 2 for loss, one in zip(losses, both, strict=True)]
    one, other = both.flatten(1, -2).log_softmax(-1)
    there = (one.exp() * (one - other)).sum(-1).mean()
    back = (other.exp() * (other - one)).sum(-1).mean()
    total: Tensor = losses[0] + losses[1] + 3.0 * (there + back) / 2
    return total


def test_two_runs_that_are_alike_are_one_run() -> None:
    inputs, labels = torch.randn(6, 4), torch.arange(6) % 3
    found = []
    for rdrop in (0.0, 5.0):
        torch.manual_seed(0)
        network = nn.Linear(4, 3)
        seen: list[int] = []

        def run(x: Tensor, network: nn.Module = network, seen: list[int] = seen) -> Tensor:
            seen.append(len(x))
            answers: Tensor = network(x)
            return answers

        distilled(run, None, Recipe(rdrop=rdrop), CLASSES)(Batch(inputs, labels, 0, 1))
        assert seen == [12 if rdrop else 6]
        found.append(network.weight.grad)
    torch.testing.assert_close(found[0], found[1])


def test_runs_that_drop_other_units_are_set_against_each_other() -> None:
    """Both halves of a batch have units of their own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, 3))
    batch = Batch(torch.ones(8, 32), torch.zeros(8, dtype=torch.int64), 0, 1)
    plain, agreeing = (
        distilled(network, None, Recipe(label_smoothing=0.0, rdrop=weight), CLASSES) for weight in (0.0, 1e3)
    )
    assert agreeing(batch) > 10 * plain(batch)
