"""A ridge on what the space itself tells of a candidate, for values that are sums of such things: bytes, milliseconds."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from wb.predictors.features import Floats

ALPHAS = np.logspace(-5, 2, 15)
FLOOR = 0.1  # of the values' mean size; added, so that values near zero do not count for everything


class Line:
    """Linear in few columns; errors count relative to the value.

    A sum of costs has its noise and its interest at the small end as much as at the large, where least squares would put
    all its effort.
    """

    def fit(self, columns: Floats, target: Floats, values: Floats) -> Line:
        """Fits one target per row; `values` are the same in their own unit, which says how much an error matters."""
        size = np.abs(values) / (float(np.abs(values).mean()) or 1.0)
        self._scaler = StandardScaler().fit(columns)
        self._ridge = RidgeCV(ALPHAS).fit(
            self._scaler.transform(columns), target, sample_weight=1 / (size + FLOOR) ** 2
        )
        return self

    def predict(self, columns: Floats) -> Floats:
        """One value per row."""
        return np.asarray(self._ridge.predict(self._scaler.transform(columns)))
