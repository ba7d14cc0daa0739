"""Gaussian process regression with hyperparameters chosen from a grid: for smooth functions with interactions."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from wb.predictors.features import Floats, Indices

WIDTHS = (0.5, 1.0, 2.0)  # length scales of the radial kernel, in medians of the distances
SHARES = (0.0, 0.5, 0.9)  # of the linear kernel in the sum
NOISES = (1e-3, 1e-2, 1e-1)
RELEVANCES = (0.1, 0.3, 1.0, 3.0)  # factors that the columns of a family may be multiplied by
ROUNDS = 2  # passes over all families
JUDGES = 200  # samples that relevances are chosen from, at most


class GaussianProcess:
    """Posterior mean of a Gaussian process with a linear and a radial kernel, for standardised columns and values.

    `fit` chooses `width`, `share` (of the linear kernel) and `noise` such that they maximise the marginal likelihood; the
    best scale of the kernel has a closed form. `families` holds the family number of each column. With it, the columns of
    every family are multiplied by its `relevance` (automatic relevance determination). The relevances are chosen one after
    the other to maximise the likelihood, and each that differs from 1 is charged as a parameter (Bayesian information
    criterion). Columns that do not matter then add little to the distance between samples.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.30 and 5.8;
    relevances 5.10.
    Differs: a grid instead of gradients, which would cost more time than they save; one relevance per family instead of per
    column, because few samples do not determine more.
    Limits: `held_out` leaves samples out of the mean but not out of the choice of hyperparameters, so its predictions look a
    little too good where samples are few. Work grows with the third power of the samples: about a second for 1,000.
    """

    def __init__(self, families: Indices | None = None) -> None:
        self._families = families
        self.relevance: Floats = np.ones(1)

    def fit(self, columns: Floats, target: Floats) -> GaussianProcess:
        """Fits one value per row; needs at least two rows."""
        if self._families is not None:
            some = np.arange(len(target))
            if len(target) > JUDGES:
                some = np.sort(np.random.default_rng(0).choice(some, JUDGES, replace=False))
            self.relevance = _relevances(columns[some], target[some], self._families)
        self._columns, self._target = self._scaled(columns), target
        pairs = _pairs(self._columns, self._columns)
        self._scales = _scales(pairs)
        found = _best(pairs, target)
        self.width, self.share, self.noise = found.width, found.share, found.noise
        kernel = _kernel(pairs, self._scales, self.width, self.share)
        self._factor = cho_factor(kernel + self.noise * np.eye(len(target)), lower=True)
        self._solved = cho_solve(self._factor, target)
        return self

    def predict(self, columns: Floats) -> Floats:
        """The posterior mean, one value per row."""
        pairs = _pairs(self._scaled(columns), self._columns)
        return np.asarray(_kernel(pairs, self._scales, self.width, self.share) @ self._solved)

    def held_out(self, folds: list[Indices]) -> Floats:
        """Held-out predictions: for each fold, those of the process fitted without it, with the same hyperparameters.

        Source: Rasmussen and Williams, equation 5.12, for blocks instead of single samples.
        """
        inverse = cho_solve(self._factor, np.eye(len(self._target)))
        predicted = np.empty(len(self._target))
        for fold in folds:
            predicted[fold] = self._target[fold] - np.linalg.solve(inverse[np.ix_(fold, fold)], self._solved[fold])
        return predicted

    def _scaled(self, columns: Floats) -> Floats:
        return columns if self._families is None else columns * self.relevance[self._families]


class _Pairs(NamedTuple):
    """Squared distances and inner products of all rows of one array with all rows of another.

    Both are sums over the columns, so the part of some columns can be rescaled on its own (`_added`).
    """

    squares: Floats
    products: Floats


class _Scales(NamedTuple):
    median: float
    linear: float


class _Settings(NamedTuple):
    likelihood: float
    """Twice the logarithm of the marginal likelihood, up to a constant."""
    width: float
    share: float
    noise: float


def _relevances(columns: Floats, target: Floats, families: Indices) -> Floats:
    """One relevance per family; 1 where another value does not raise the likelihood enough."""
    parts = [columns[:, families == family] for family in range(int(families.max()) + 1)]
    each = [_pairs(part, part) for part in parts]
    pairs, relevance, worth = _pairs(columns, columns), np.ones(len(parts)), float(np.log(len(target)))
    for _ in range(ROUNDS):
        settings = _best(pairs, target)
        before = relevance.copy()
        for family, own in enumerate(each):
            tried = {value: _added(pairs, value**2 - relevance[family] ** 2, own) for value in RELEVANCES}
            scores = {
                value: _likelihood(some, target, settings) - worth * (value != 1) for value, some in tried.items()
            }
            relevance[family] = max(scores, key=lambda value: scores[value])
            pairs = tried[relevance[family]]
        if (relevance == before).all():
            break
    return relevance


def _best(pairs: _Pairs, target: Floats) -> _Settings:
    """The settings of the grid with the largest likelihood."""
    scales, best = _scales(pairs), _Settings(-np.inf, WIDTHS[0], SHARES[0], NOISES[0])
    for width, share in itertools.product(WIDTHS, SHARES):
        kernel = _kernel(pairs, scales, width, share)
        for noise in NOISES:
            best = max(best, _Settings(_evidence(kernel, noise, target), width, share, noise))
    return best


def _likelihood(pairs: _Pairs, target: Floats, settings: _Settings) -> float:
    kernel = _kernel(pairs, _scales(pairs), settings.width, settings.share)
    return _evidence(kernel, settings.noise, target)


def _evidence(kernel: Floats, noise: float, target: Floats) -> float:
    n = len(target)
    factor = cho_factor(kernel + noise * np.eye(n), lower=True)
    scale = max(float(target @ cho_solve(factor, target)) / n, 1e-300)
    return float(-n * np.log(scale) - 2 * np.log(np.diag(factor[0])).sum())


def _kernel(pairs: _Pairs, scales: _Scales, width: float, share: float) -> Floats:
    radial = np.exp(-pairs.squares / (2 * width**2 * scales.median))
    return np.asarray(share * scales.linear * pairs.products + (1 - share) * radial)


def _scales(pairs: _Pairs) -> _Scales:
    """Scales of the two kernels that make the hyperparameters independent of the unit of the columns."""
    n = len(pairs.squares)
    median = float(np.median(pairs.squares[~np.eye(n, dtype=bool)])) or 1.0
    return _Scales(median, n / max(float(np.trace(pairs.products)), 1e-12))


def _pairs(a: Floats, b: Floats) -> _Pairs:
    products = a @ b.T
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * products
    return _Pairs(np.maximum(squares, 0.0), products)


def _added(pairs: _Pairs, factor: float, own: _Pairs) -> _Pairs:
    """`pairs` plus `factor` times those of some columns, `own`. Negative squares, due to rounding, become 0."""
    return _Pairs(np.maximum(pairs.squares + factor * own.squares, 0.0), pairs.products + factor * own.products)
