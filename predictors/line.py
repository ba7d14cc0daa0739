"""A ridge on what the space itself tells of a candidate, for values that are sums of such things: bytes, milliseconds."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from wb.predictors.features import Floats

ALPHAS = np.logspace(-5, 2, 15)
FLOOR = 0.1  # of the values' mean size: errors of values below count absolutely


class Line:
    """Linear in few columns; errors count relative to the value.

    A sum of costs has its noise and its interest at the small end as much as at the large, where least squares would put
    all its effort.
    """

    def fit(self, columns: Floats, target: Floats, size: Floats) -> Line:
        """Fits one target per row; an error counts divided by `size`, which is the value's in its own unit."""
        size = np.abs(size)
        weights = 1 / (size + (FLOOR * float(size.mean()) or 1.0)) ** 2
        self._scaler = StandardScaler().fit(columns)
        self._ridge = RidgeCV(ALPHAS).fit(
            self._scaler.transform(columns), target, sample_weight=weights / weights.mean()
        )
        return self

    def predict(self, columns: Floats) -> Floats:
        """One value per row."""
        return np.asarray(self._ridge.predict(self._scaler.transform(columns)))
