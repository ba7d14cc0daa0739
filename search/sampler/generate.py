"""The sampler `generate`: an Optuna sampler that learns to propose networks that meet requirements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial

from wb.core.measures.requirements import Asked
from wb.core.space import Choices, Genes, Practised
from wb.predictors.features import Encoder, Indices
from wb.search.sampler.batched import BatchSampler
from wb.search.sampler.conditional import conditional
from wb.search.sampler.cross_entropy import Kept, batch_of, draw, generate, start
from wb.search.sampler.generator import Ancestry, Generator
from wb.search.sampler.inquisitor import Archive, Inquisitor
from wb.search.sampler.proposals import Proposal, initial_rows

GENERATORS = (
    "generators"  # the study's user attribute: requirements as text -> their generator, and what it is based on
)
BATCH = 10
OVERDRAWN = 8  # as many first candidates are drawn for each that is wanted, where best practice rules some out

Values = Callable[[FrozenTrial], Mapping[str, float]]


class GenerateSampler(BatchSampler):
    """Proposes networks that meet requirements, and among those better ones.

    The generator is a categorical per gene given the gene that switches it on. For every batch it starts from the counts of the
    best fifth of all evaluated networks. Ten rounds of cross-entropy on the predictors of the inquisitor follow: it draws, the
    inquisitor scores, and it moves half-way to the counts of the best. The batch is the best of all that was drawn, and one
    in ten is random. Once a network meets all requirements, the expected improvement of `goal`, or of the smallest margin,
    counts too. For a requirement that no batch was proposed for, it also starts from what the archive tells of networks with
    such readings. The last generator for each requirement is kept in the study's user attribute `generators`.

    Source: generative synthesis, Wong et al., arXiv 1809.05989: argmax U(G(s)) subject to 1_r(G(s)) = 1, by a pair of generator
    and inquisitor; TurboViT, arXiv 2308.11421.
    Differs: form and updates of both are unpublished, and ours; networks are networks of a space.
    """

    def __init__(
        self,
        space: Genes,
        asked: Asked,
        values: Values,
        *,
        seed: int | None = None,
        batch: int = BATCH,
        initial: int | None = None,
        known: Sequence[Choices] = (),
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        workers: int = 1,
        inherited: bool = False,
    ) -> None:
        """`values` gives the values of a finished trial by metric; trials that lack one that is needed are ignored.

        Quality that is `inherited` rises when a network is trained on. So a bound on it that no network within the bounds on
        costs reaches yet is lowered to the best of these (`lowered`): more quality must not seem worth a missed cost.

        Best practice is what the space says (`wb.core.space.Practised`). Other arguments and errors are those of `BatchSampler`.
        """
        super().__init__(
            space,
            seed=seed,
            batch=batch,
            initial=initial,
            known=known,
            constraints_func=constraints_func,
            workers=workers,
        )
        self._asked, self._values, self._inherited = asked, values, inherited
        self._uniform = Generator.uniform(self._encoder, Ancestry.of(self._encoder))
        self._kept = practice_of(self._encoder) if asked.practice else None
        self.aim = asked.text()

    def _usable(self, trial: FrozenTrial) -> bool:
        return super()._usable(trial) and self._asked.metrics <= self._values(trial).keys()

    def _first(self, rng: np.random.Generator) -> Indices:
        if self._kept is None:
            return super()._first(rng)
        rows = initial_rows(self._encoder, OVERDRAWN * self._spread, rng)
        good = rows[self._kept(rows)]
        return (good if len(good) else rows)[: self._spread]

    def _predicted(
        self,
        study: Study,
        complete: Sequence[FrozenTrial],
        pending: Indices,
        taken: AbstractSet[bytes],
        count: int,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        del (
            pending
        )  # a batch is of what meets requirements best, one by one, so that what is on its way changes nothing
        archive = self._archive(complete)
        asked = lowered(self._asked, archive) if self._inherited else self._asked
        inquisitor = Inquisitor(self._encoder, archive, asked, int(rng.integers(2**31)))
        before = study._storage.get_study_user_attrs(study._study_id).get(GENERATORS, {})
        found = generate(self._starts(archive, asked, self._is_new(before, len(complete))), inquisitor, rng, self._kept)
        kept = {"evaluations": len(complete), "tables": found.generator.dump()}
        study._storage.set_study_user_attr(study._study_id, GENERATORS, {**before, self.aim: kept})
        prior = rng.permutation(draw([self._uniform], 2 * count, rng, self._kept))
        return self._proposals(study, inquisitor, batch_of(found, prior, taken, count))

    def _is_new(self, before: Mapping[str, Any], evaluations: int) -> bool:
        """Whether no batch was proposed for these requirements on fewer evaluations; a killed process may have begun this one."""
        try:
            return int(before[self.aim]["evaluations"]) >= evaluations
        except (KeyError, TypeError, ValueError):
            return True

    def _starts(self, archive: Archive, asked: Asked, new: bool) -> list[Generator]:
        """Where cross-entropy starts from: the best of the archive; for a new requirement also what is typical of it."""
        best = start(self._uniform, archive, asked)
        return [best, conditional(self._uniform, archive, asked.requirements)] if new else [best]

    def _proposals(self, study: Study, inquisitor: Inquisitor, rows: Sequence[Indices]) -> list[Proposal]:
        """The rows with the predictions of the study's objectives, where all of these are predicted."""
        names = study.metric_names
        if not rows or names is None or any(name not in inquisitor.models for name in names):
            return [Proposal(row) for row in rows]
        found = inquisitor.predict(np.array(rows))
        mean, sd = (np.stack([found[name][part] for name in names], axis=1).tolist() for part in (0, 1))
        return [Proposal(*each) for each in zip(rows, mean, sd, strict=True)]

    def _archive(self, complete: Sequence[FrozenTrial]) -> Archive:
        found = [(row, self._values(trial)) for trial in complete if (row := self._row(trial)) is not None]
        return Archive.of([row for row, _ in found], [values for _, values in found], self._asked)


def lowered(asked: Asked, archive: Archive) -> Asked:
    """The same, but no more quality than the best that evaluated networks have which are within the bounds on costs.

    If none is, it is that of the network that is nearest to them.
    """
    costs = [one for one in asked.requirements if not one.metric.quality]
    short = np.maximum(archive.violations(costs), 0).sum(axis=1)
    within = short <= short.min()
    best = {name: float(values[within].max()) for name, values in archive.values.items()}
    found = tuple(
        one.at(min(one.bound, best[one.metric.name])) if one.metric.quality and one.sign == ">=" else one
        for one in asked.requirements
    )
    return replace(asked, requirements=found)


def practice_of(encoder: Encoder) -> Kept | None:
    """Which rows keep to all practices of the space; None if it has none."""
    if not isinstance(encoder.space, Practised):
        return None
    practices = tuple(encoder.space.practices.values())

    def kept(rows: Indices) -> NDArray[np.bool_]:
        candidates = (encoder.choices(row) for row in rows)
        return np.array([all(keeps(choices) for keeps in practices) for choices in candidates], dtype=np.bool_)

    return kept
