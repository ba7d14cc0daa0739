"""A Gaussian process whose few settings are chosen from a grid: for smooth functions with interactions."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from wb.predictors.features import Floats, Indices

WIDTHS = (0.5, 1.0, 2.0)  # of the radial part, in medians of the distances
SHARES = (0.0, 0.5, 0.9)  # of the linear part
NOISES = (1e-3, 1e-2, 1e-1)


class GaussianProcess:
    """Mean of a Gaussian process with a linear and a radial kernel, for standardised columns and values.

    `fit` sets `width`, `share` (of the linear kernel) and `noise` such that they maximise the marginal likelihood, for
    which the scale of the kernel has a closed form.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.30 and 5.8.
    Differs: 27 settings in a grid, because gradients of all of them cost more than the fits that they save.
    Limits: work grows with the third power of the samples; a second for some 1,000 of them.
    """

    def fit(self, columns: Floats, target: Floats) -> GaussianProcess:
        """Fits one value per row; at least two rows."""
        self._columns, n = columns, len(target)
        self._linear_scale = n / max(float((columns**2).sum()), 1e-12)
        squares = _squares(columns, columns)
        self._median = float(np.median(squares[~np.eye(n, dtype=bool)])) or 1.0
        best = -np.inf
        for width, share in itertools.product(WIDTHS, SHARES):
            kernel = self._kernel(columns, width, share)
            for noise in NOISES:
                factor = cho_factor(kernel + noise * np.eye(n), lower=True)
                solved = cho_solve(factor, target)
                scale = max(float(target @ solved) / n, 1e-300)
                likelihood = -n * np.log(scale) - 2 * float(np.log(np.diag(factor[0])).sum())
                if likelihood > best:
                    best = likelihood
                    self.width, self.share, self.noise = width, share, noise
                    self._factor, self._solved = factor, solved
        self._target = target
        return self

    def predict(self, columns: Floats) -> Floats:
        """One value per row."""
        return np.asarray(self._kernel(columns, self.width, self.share) @ self._solved)

    def held_out(self, folds: list[Indices]) -> Floats:
        """What the process predicts for each fold if it has not seen it, all else being equal.

        Source: Rasmussen and Williams, equation 5.12, for blocks instead of single samples.
        """
        inverse = cho_solve(self._factor, np.eye(len(self._target)))
        predicted = np.empty(len(self._target))
        for fold in folds:
            predicted[fold] = self._target[fold] - np.linalg.solve(inverse[np.ix_(fold, fold)], self._solved[fold])
        return predicted

    def _kernel(self, columns: Floats, width: float, share: float) -> Floats:
        radial = np.exp(-_squares(columns, self._columns) / (2 * width**2 * self._median))
        linear = self._linear_scale * columns @ self._columns.T
        return np.asarray(share * linear + (1 - share) * radial)


def _squares(a: Floats, b: Floats) -> Floats:
    """Squared distances between all rows of both."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(squares, 0.0))
