"""Whether two models come from one, by their histories: then every block of both stands where it stood in that one."""

from __future__ import annotations

from itertools import takewhile

from wb.models.model import Model, Step

IN_PLACE = {"score", "finetune", "drop", "prune nvit", "hash", "low bits", "quantize", "search", "fuse"}


def related(one: Model, other: Model) -> bool:
    """Whether both come from one model by passes that leave every block in its place, be it as one that is switched off.

    That takes equal first steps of both histories which say what model they made, known passes behind these, and as many
    places for blocks in both. False where the histories do not tell.
    """
    shared = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.history, other.history, strict=False))]
    rest = (*one.history[len(shared) :], *other.history[len(shared) :])
    places = ([len(stage.blocks) for stage in model.architecture.stages] for model in (one, other))
    return any(map(_certain, shared)) and all(map(_in_place, rest)) and next(places) == next(places)


def _certain(step: Step) -> bool:
    """Whether no other model has this step: it names what it made, or has the measured readings of it."""
    measured = any(reading.how == "measured" for reading in step.readings.values())
    return measured or "architecture" in step.arguments or "parents" in step.arguments


def _in_place(step: Step) -> bool:
    """Whether a step leaves every block that it does not drop where it is."""
    return step.name in IN_PLACE and not (step.name == "fuse" and "target" in step.arguments)
