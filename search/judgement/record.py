"""The judgement as it is kept in the record of a run."""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.measures.readings import Reading
from wb.core.measures.requirements import State
from wb.core.records import Frozen


class Verdict(Frozen):
    """What a network has of a required metric, and whether that is enough; `text` says by how much it is not."""

    reading: Reading
    state: State
    text: str


class Relaxation(Frozen):
    """The least relaxation of one requirement alone that makes all others reachable.

    `network` is the evaluated network that needs it, with its `reading`; None where no evaluated network meets the others.
    `predicted` is the bound that the predictors find reachable.
    """

    network: int | None = None
    reading: Reading | None = None
    predicted: Reading | None = None


class Attainable(Frozen):
    """What can be asked for instead: the requirements, relaxed as far as the evaluated `network` needs it."""

    network: int
    requirements: tuple[str, ...]


class Judgement(Frozen):
    """The judgement of a finished search by its requirements.

    `requirements` are in words, and the keys of the others. `verdicts` are those of the networks that are left, by their ids, the
    nearest first; `meeting` of them meet everything. `evaluated` networks were searched, of which `reached` met everything as
    searched. `binding` counts those of the others that miss each requirement most. `relaxations` are given where nothing meets;
    so is `attainable`, which relaxes one requirement where one is enough, and as little as possible.
    `preferences` are the options that the generator favours: gene -> option -> its share of what it draws.
    """

    requirements: tuple[str, ...]
    verdicts: Mapping[int, Mapping[str, Verdict]]
    meeting: tuple[int, ...]
    evaluated: int
    reached: int
    binding: Mapping[str, int]
    relaxations: Mapping[str, Relaxation] = {}
    attainable: Attainable | None = None
    preferences: Mapping[str, Mapping[str, float]] = {}

    @property
    def met(self) -> bool:
        """Whether a network meets everything."""
        return bool(self.meeting)

    @property
    def binds(self) -> str | None:
        """The requirement that binds most often; None if nothing was missed."""
        most = max(self.binding, key=lambda text: self.binding[text], default=None)
        return most if most is not None and self.binding[most] else None
