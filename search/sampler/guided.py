"""The guided sampler: an Optuna sampler that proposes candidates by predictors fitted on all evaluations of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from wb.predictors.ensemble import Ensemble, Quality
from wb.predictors.features import Floats, Indices
from wb.search.sampler.batched import BatchSampler
from wb.search.sampler.inner import Models, Outcome
from wb.search.sampler.proposals import Proposal, closeness, propose


class GuidedSampler(BatchSampler):
    """Proposes the candidates with the largest predicted gain in hypervolume, for one to four objectives of either direction.

    Whenever a batch is used up, the sampler fits one predictor per objective (and constraint) and runs NSGA-II on the
    predictions. Among all candidates that NSGA-II visited it then chooses the next batch greedily by hypervolume.

    Source: LINAS in DyNAS-T, https://github.com/IntelLabs/DyNAS-T (Cummings et al., arXiv 2205.10358).
    Differs: spread first candidates; pooled features; several models weighted for accuracy near the front; NSGA-II starts
    from the archive and variants of it, and all candidates it visited count, not only the last population; batches by
    hypervolume improvement; no repeats; constraints.
    """

    quality: Mapping[int, Quality] = {}
    """Objective's index -> quality of its predictor when the last batch was chosen."""

    def _predicted(
        self,
        study: Study,
        complete: Sequence[FrozenTrial],
        pending: Indices,
        taken: AbstractSet[bytes],
        count: int,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """A batch from predictors fitted on all complete trials."""
        signs = np.array([1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in study.directions])
        rows = np.array([self._row(trial) for trial in complete])
        values = np.array([trial.values for trial in complete]) * signs
        features = self._encoder.features(rows)
        seed = int(rng.integers(2**31))
        constraints, violation = self._constraints(features, complete, seed)
        importance = closeness(values, violation)
        objectives = [Ensemble(self._encoder.layout, seed).fit(features, y, importance) for y in values.T]
        self.quality = {i: model.quality for i, model in enumerate(objectives)}
        models = Models(objectives, constraints)
        archive = Outcome(rows, values, violation)
        found = propose(self._encoder, models, archive, pending, taken, count, rng)
        return [Proposal(p.row, (np.array(p.mean) * signs).tolist(), p.std) for p in found]

    def _constraints(
        self, features: Floats, complete: Sequence[FrozenTrial], seed: int
    ) -> tuple[list[Ensemble], Floats]:
        """One predictor per constraint, and each trial's total violation, shape (trials,).

        Each constraint is divided by its standard deviation over the trials.
        """
        models, violation = [], np.zeros(len(complete))
        for name in dict.fromkeys(name for trial in complete for name in trial.constraints):
            known = np.array([np.isfinite(trial.constraints.get(name, np.nan)) for trial in complete])
            values = np.array([trial.constraints[name] for trial, here in zip(complete, known, strict=True) if here])
            if len(values) > 1:
                values = values / (float(values.std()) or 1.0)
                violation[known] += np.maximum(values, 0)
                models.append(Ensemble(self._encoder.layout, seed).fit(features[known], values))
            violation[[trial.constraints.get(name, 0.0) == np.inf for trial in complete]] = np.inf
        return models, violation
