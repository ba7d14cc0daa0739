"""The judgement of a search by its requirements, from the study and the networks that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial

from wb.core.readings import Reading
from wb.core.requirements import Asked, Requirement, meets, violations_of
from wb.core.space import Genes
from wb.predictors.features import Encoder
from wb.search.judgement.choice import nearest
from wb.search.judgement.record import Judgement, Relaxation, Verdict
from wb.search.judgement.relax import reachable, relaxation
from wb.search.sampler.generator import Ancestry, Generator
from wb.search.sampler.inquisitor import Archive
from wb.search.study.trials import choices_of, readings_of

LEANING = 1.5  # times as probable as among all options alike, from which on a gene counts as preferred
TOLD = 12  # genes whose preferences are kept, at most

Known = Mapping[int, Mapping[str, Reading]]


def judge(
    asked: Asked,
    space: Genes,
    trials: Sequence[FrozenTrial],
    left: Known,
    trained: Mapping[int, Reading],
    stored: object,
    seed: int,
) -> Judgement:
    """The judgement, where `trials` were evaluated and the networks in `left` have these readings at last.

    `trained` has the quality of those that were trained alone. `stored` is the generator that the study keeps, if it has one.
    The last reading that there is of a network counts.
    """
    requirements = asked.requirements
    archive: dict[int, Mapping[str, Reading]] = {trial.number: readings_of(trial) for trial in trials}
    searched = sum(meets(requirements, found) for found in archive.values())
    names = [one.metric.name for one in requirements if one.metric.quality]
    archive |= {n: {**archive[n], **dict.fromkeys(names, reading)} for n, reading in trained.items() if n in archive}
    archive |= left
    verdicts = {
        number: {one.text(): _verdict(one, left[number]) for one in requirements}
        for number in nearest(left, requirements)
    }
    meeting = tuple(number for number in verdicts if meets(requirements, left[number]))
    encoder = Encoder(space)
    uniform = Generator.uniform(encoder, Ancestry.of(encoder))
    return Judgement(
        requirements=tuple(one.text() for one in requirements),
        verdicts=verdicts,
        meeting=meeting,
        evaluated=len(trials),
        reached=searched,
        binding=binding(requirements, archive),
        relaxations={} if meeting else _relaxations(asked, uniform, trials, archive, seed),
        preferences=_preferences(uniform, stored),
    )


def binding(requirements: Sequence[Requirement], readings: Known) -> dict[str, int]:
    """Requirement -> how many networks miss it more than any other."""
    found = {one.text(): 0 for one in requirements}
    for each in readings.values():
        missed = violations_of(requirements, each)
        if max(missed) > 0:
            found[requirements[missed.index(max(missed))].text()] += 1
    return found


def _verdict(one: Requirement, readings: Mapping[str, Reading]) -> Verdict:
    reading = readings[one.metric.name]
    return Verdict(reading=reading, state=one.state(reading), text=one.verdict(reading))


def _relaxations(
    asked: Asked, uniform: Generator, trials: Sequence[FrozenTrial], readings: Known, seed: int
) -> dict[str, Relaxation]:
    encoder = uniform.encoder
    rows = encoder.indices([choices_of(encoder.space, trial) for trial in trials])
    values = [{name: reading.value for name, reading in readings[trial.number].items()} for trial in trials]
    archive = Archive.of(list(rows), values, asked)
    found = {}
    for one in asked.requirements:
        others = [other for other in asked.requirements if other != one]
        bound = reachable(one, asked, encoder, archive, uniform, seed)
        found[one.text()] = relaxation(one, others, readings, bound)
    return found


def _preferences(uniform: Generator, stored: object) -> dict[str, dict[str, float]]:
    """The options that the stored generator favours, of the genes in which it is surest."""
    try:
        drawn = uniform.load(stored["tables"]).preferences()  # type: ignore[index]  # or TypeError
    except (TypeError, KeyError, ValueError, AttributeError):  # another sampler, or a damaged study
        return {}
    liked = {
        name: {str(option): share for option, share in shares.items() if share * len(shares) >= LEANING}
        for name, shares in drawn.items()
    }
    lean = {name: max(shares.values()) * len(drawn[name]) for name, shares in liked.items() if shares}
    surest = sorted(lean, key=lambda name: -lean[name])[:TOLD]
    return {name: liked[name] for name in drawn if name in surest}
