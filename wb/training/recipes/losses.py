"""What a training minimizes, as the recipe says: the task's loss, and what teachers, copies and paths have to say."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wb.models.network import Network
from wb.tasks.base import Task
from wb.training.arithmetic import computed
from wb.training.fit import Backward, Batch, Recipe
from wb.training.recipes.agreeing import agreeing, twice
from wb.training.recipes.paths import answering

TEMPERATURE = 2.0


def distilled(
    network: Callable[[Tensor], Tensor], teacher: Callable[[Tensor], Tensor] | None, recipe: Recipe, task: Task
) -> Backward:
    """The backward function for `wb.training.fit.fit`: the task's loss or, given a `teacher`, its mean with distillation.

    Network and teacher map a batch (B, ...) to outputs of `task`. With `rdrop` the network runs twice over each
    (`wb.training.recipes.agreeing`).
    """

    def backward(batch: Batch) -> float:
        target = answered(teacher, batch, recipe)

        def loss_of(outputs: Tensor) -> Tensor:
            return taught(outputs, batch, target, recipe, task)

        if recipe.rdrop:
            loss = agreeing(computed(network, twice(batch), recipe), loss_of, recipe.rdrop, task)
        else:
            loss = loss_of(computed(network, batch.inputs, recipe))
        loss.backward()
        return loss.item()

    return backward


def self_distilled(
    network: Network, teacher: Callable[[Tensor], Tensor] | None, recipe: Recipe, task: Task
) -> Backward:
    """The same, and the share `paths` of what the sums of a path ensemble's first paths miss of its own answer."""

    def backward(batch: Batch) -> float:
        with answering(network) as early:
            outputs = computed(network, batch.inputs, recipe)
            loss = taught(outputs, batch, answered(teacher, batch, recipe), recipe, task)
            missed = [task.distillation(one, outputs.detach(), TEMPERATURE) for one in early()]
        if missed:
            loss = loss + recipe.paths * torch.stack(missed).mean()
        loss.backward()
        return loss.item()

    return backward


def answered(teacher: Callable[[Tensor], Tensor] | None, batch: Batch, recipe: Recipe) -> Tensor | None:
    """What the teacher says of a batch."""
    if teacher is None:
        return None
    with torch.no_grad():
        return computed(teacher, batch.inputs, recipe)


def taught(outputs: Tensor, batch: Batch, target: Tensor | None, recipe: Recipe, task: Task) -> Tensor:
    """The task's loss of a network's `outputs` or, given a teacher's as `target`, its mean with distillation."""
    loss = batch.loss(outputs, task, recipe.label_smoothing)
    return loss if target is None else (loss + task.distillation(outputs, target, TEMPERATURE)) / 2
