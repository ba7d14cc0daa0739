"""Ridge regression on a candidate's traits, for values that are sums of such traits: bytes, milliseconds."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from wb.predictors.features import Floats

ALPHAS = np.logspace(-5, 2, 15)
FLOOR = 0.1  # of the mean absolute value; added to each value's size, so that values near zero do not dominate the fit


class Line:
    """Weighted ridge regression in few columns that minimises relative errors.

    Differences between small costs matter as much as those between large ones; plain least squares would fit mostly the
    large ones.
    """

    def fit(self, columns: Floats, target: Floats, values: Floats) -> Line:
        """Fits one target per row. `values` are the targets before scaling; the weight of a sample falls with their size."""
        size = np.abs(values) / (float(np.abs(values).mean()) or 1.0)
        self._scaler = StandardScaler().fit(columns)
        self._ridge = RidgeCV(ALPHAS).fit(
            self._scaler.transform(columns), target, sample_weight=1 / (size + FLOOR) ** 2
        )
        return self

    def predict(self, columns: Floats) -> Floats:
        """One value per row."""
        return np.asarray(self._ridge.predict(self._scaler.transform(columns)))
