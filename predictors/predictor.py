"""A predictor of one number for candidates of a space, e.g. accuracy or latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wb.core.errors import BadOption
from wb.core.space import Choices, Genes
from wb.predictors.ensemble import Ensemble, Quality
from wb.predictors.features import Encoder, Floats


class Predictor:
    """Learns to predict one number from few true evaluations; inactive genes have no influence.

    Source: DyNAS-T's predictors, https://github.com/IntelLabs/DyNAS-T. Differs: see `Encoder` and `Ensemble`.
    Limits: it extrapolates linearly at best, and it cannot predict that an evaluation will fail.
    """

    def __init__(self, space: Genes, seed: int = 0) -> None:
        self._encoder = Encoder(space)
        self._ensemble = Ensemble(self._encoder.layout, seed)

    def fit(self, candidates: Sequence[Choices], values: Sequence[float]) -> Predictor:
        """Fits one value per candidate, and forgets earlier fits.

        Raises:
            BadOption: there are fewer than two values, one is not finite, or their number differs from the candidates'.
            NotInSpace: a candidate is not in the space.
        """
        if len(candidates) != len(values):
            raise BadOption(f"expected one value per candidate; got {len(values)} for {len(candidates)}")
        rows = self._encoder.indices(candidates)
        self._ensemble.fit(self._encoder.features(rows), np.asarray(values, dtype=np.float64))
        return self

    def predict(self, candidates: Sequence[Choices]) -> tuple[Floats, Floats]:
        """Mean and standard deviation per candidate, in the unit of the fitted values.

        Raises:
            NotInSpace: a candidate is not in the space.
        """
        if not candidates:
            return np.zeros(0), np.zeros(0)
        return self._ensemble.predict(self._encoder.features(self._encoder.indices(candidates)))

    @property
    def quality(self) -> Quality:
        """The cross-validated quality, computed by `fit`."""
        return self._ensemble.quality
