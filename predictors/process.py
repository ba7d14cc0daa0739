"""A Gaussian process whose few settings are chosen from a grid: for smooth functions with interactions."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from wb.predictors.features import Floats, Indices

WIDTHS = (0.5, 1.0, 2.0)  # of the radial part, in medians of the distances
SHARES = (0.0, 0.5, 0.9)  # of the linear part
NOISES = (1e-3, 1e-2, 1e-1)
RELEVANCES = (0.1, 0.3, 1.0, 3.0)  # what the columns of a family may be multiplied by
ROUNDS = 2  # how often each family is looked at
JUDGES = 200  # samples that relevances are found with, at most


class GaussianProcess:
    """Mean of a Gaussian process with a linear and a radial kernel, for standardised columns and values.

    `fit` sets `width`, `share` (of the linear kernel) and `noise` such that they maximise the marginal likelihood, for
    which the scale of the kernel has a closed form. With `families`, the number of each column's family, every family of
    columns is multiplied by its `relevance`: one by one each takes what raises the likelihood most, where every relevance
    other than 1 has to be worth a parameter (Bayesian information criterion). So what does not matter does not keep samples
    apart.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.30 and 5.8;
    relevances 5.10.
    Differs: settings in grids, because gradients of all of them cost more than the fits that they save; relevances of
    families instead of columns, which few samples can tell.
    Limits: `held_out` leaves values out of the mean, not of the choice of settings, which flatters it a little where samples
    are few. Work grows with the third power of the samples; a second for some 1,000 of them.
    """

    def __init__(self, families: Indices | None = None) -> None:
        self._families = families
        self.relevance: Floats = np.ones(1)

    def fit(self, columns: Floats, target: Floats) -> GaussianProcess:
        """Fits one value per row; at least two rows."""
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
        """One value per row."""
        pairs = _pairs(self._scaled(columns), self._columns)
        return np.asarray(_kernel(pairs, self._scales, self.width, self.share) @ self._solved)

    def held_out(self, folds: list[Indices]) -> Floats:
        """What the process predicts for each fold if it has not seen it, all else being equal.

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
    """Of all rows of one array with all of another; both are sums over the columns."""

    squares: Floats
    """Squared distances."""
    products: Floats


class _Scales(NamedTuple):
    median: float
    linear: float


class _Settings(NamedTuple):
    likelihood: float
    """Marginal, logarithmic, doubled, but for a constant."""
    width: float
    share: float
    noise: float


def _relevances(columns: Floats, target: Floats, families: Indices) -> Floats:
    """One per family; 1 for those that do not matter enough to tell."""
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
    """What makes the settings independent of the unit of the columns."""
    n = len(pairs.squares)
    median = float(np.median(pairs.squares[~np.eye(n, dtype=bool)])) or 1.0
    return _Scales(median, n / max(float(np.trace(pairs.products)), 1e-12))


def _pairs(a: Floats, b: Floats) -> _Pairs:
    products = a @ b.T
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * products
    return _Pairs(np.maximum(squares, 0.0), products)


def _added(pairs: _Pairs, factor: float, own: _Pairs) -> _Pairs:
    """`pairs` with the part of some columns multiplied further; equal rows stay at a distance of 0 whatever is rounded."""
    return _Pairs(np.maximum(pairs.squares + factor * own.squares, 0.0), pairs.products + factor * own.products)
