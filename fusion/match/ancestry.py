"""Common ancestors of two models, recognised by their histories: blocks of both then stand where the ancestor had them."""

from __future__ import annotations

from itertools import takewhile

from wb.models.model import Model, Step

IN_PLACE = {"score", "finetune", "drop", "prune nvit", "compensate", "hash", "low bits", "quantize", "search", "fuse"}


def related(one: Model, other: Model) -> bool:
    """Whether both models come from one ancestor by passes that keep every block in its place (or switch it off).

    Three conditions have to hold: the histories begin with equal steps, one of which identifies the model that it made; all
    later steps are passes known to keep blocks in place (`IN_PLACE`); both have as many places for blocks. False if the
    histories do not show it.
    """
    shared = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.history, other.history, strict=False))]
    rest = (*one.history[len(shared) :], *other.history[len(shared) :])
    places = ([len(stage.blocks) for stage in model.architecture.stages] for model in (one, other))
    return any(map(_certain, shared)) and all(map(_in_place, rest)) and next(places) == next(places)


def _certain(step: Step) -> bool:
    """Whether the step identifies one model: it names what it made, or has measured readings of it."""
    measured = any(reading.how == "measured" for reading in step.readings.values())
    return measured or "architecture" in step.arguments or "parents" in step.arguments


def _in_place(step: Step) -> bool:
    """Whether a step keeps every block in its place, unless it drops the block."""
    return step.name in IN_PLACE and not (step.name == "fuse" and "target" in step.arguments)
