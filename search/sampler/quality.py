"""Cross-validated quality of the predictors on a study, compared with a line through the MACs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from optuna.trial import FrozenTrial
from pydantic import JsonValue

from wb.core.measures.metrics import Metric
from wb.core.space import Genes
from wb.predictors.ensemble import Ensemble, baseline_quality
from wb.predictors.features import Encoder
from wb.search.study.trials import choices_of, readings_of

FEWEST = 8  # evaluations; with fewer, cross-validation is meaningless


def predictor_quality(space: Genes, trials: Sequence[FrozenTrial], metrics: Sequence[Metric]) -> dict[str, JsonValue]:
    """Objective -> cross-validated quality of its predictor and, as `macs_only`, of a straight line through the MACs.

    Empty if there are fewer than `FEWEST` evaluations.
    """
    if len(trials) < FEWEST:
        return {}
    encoder = Encoder(space)
    features = encoder.features(encoder.indices([choices_of(space, trial) for trial in trials]))
    readings = [readings_of(trial) for trial in trials]
    macs = np.array([reading["macs"].value for reading in readings])
    found: dict[str, JsonValue] = {}
    for metric in metrics:
        values = np.array([reading[metric.name].value for reading in readings])
        quality = Ensemble(encoder.layout).fit(features, values).quality
        found[metric.name] = {**asdict(quality), "macs_only": asdict(baseline_quality(macs, values))}
    return found
