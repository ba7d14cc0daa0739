"""π(gene | requirement): where a generator starts for a requirement that nothing was proposed for yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from wb.core.measures.requirements import Requirement
from wb.predictors.features import Floats, Indices
from wb.search.sampler.generator import PSEUDO, Generator
from wb.search.sampler.inquisitor import Archive

FARTHEST = 2.5  # standard deviations that a bound may be away from the archive's mean, as lines do not go on for ever
FEWEST = 8  # networks that have a gene, below which nothing is fitted


def conditional(prior: Generator, archive: Archive, requirements: Sequence[Requirement]) -> Generator:
    """A generator of networks that probably have readings at the bounds.

    Every evaluated network exemplifies the requirement that equals its readings. So for each gene a logistic regression of its
    option on the readings is fitted on the whole archive, and asked at the bounds; a gene that few networks have keeps the
    `prior`.

    Limits: it does not use the gene's parent. Of two bounds on one metric, the middle is asked for.
    """
    columns, wanted = _columns(archive, requirements)
    active = prior.encoder.active(archive.rows)
    tables = []
    for gene, table in enumerate(prior.tables):
        options = archive.rows[active[:, gene], gene]
        found = _asked(columns[active[:, gene]], options, wanted, table.shape[1])
        tables.append(table if found is None else np.broadcast_to(found, table.shape))
    return Generator(prior.encoder, prior.ancestry, tables)


def _columns(archive: Archive, requirements: Sequence[Requirement]) -> tuple[Floats, Floats]:
    """The readings on the scale of violations, standardised, (rows, metrics); and the bounds on the same scale, (metrics,)."""
    columns, wanted = [], []
    for name in dict.fromkeys(one.metric.name for one in requirements):
        bounds = [one for one in requirements if one.metric.name == name]
        values = np.array([bounds[0].violation(value) for value in archive.values[name]])
        scale = float(values.std()) or 1.0
        columns.append((values - values.mean()) / scale)
        wanted.append((np.mean([bounds[0].violation(one.bound) for one in bounds]) - values.mean()) / scale)
    return np.stack(columns, axis=1), np.clip(wanted, -FARTHEST, FARTHEST)


def _asked(columns: Floats, options: Indices, wanted: Floats, size: int) -> Floats | None:
    """The probability of each option at the bounds; None if there is too little to learn from."""
    present = np.unique(options)
    if len(options) < FEWEST or len(present) < 2:
        return None
    share = LogisticRegression().fit(columns, options).predict_proba(wanted[None])[0]
    counts = np.full(size, PSEUDO)
    counts[present] += share * len(options)
    return np.asarray(counts / counts.sum())
