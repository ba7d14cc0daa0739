"""Predictors against functions that are known exactly."""

from __future__ import annotations

import math
import random
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.linear_model import RidgeCV

from wb.core.errors import BadOption, NotInSpace
from wb.core.space import Choices, Option
from wb.predictors.ensemble import baseline_quality
from wb.predictors.predictor import Predictor


class Layers:
    """Twelve layers of which the first `depth` matter, with a width and a head count each."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (6, 8, 10, 12),
        **{f"{i}.width": (128, 256, 512) for i in range(12)},
        **{f"{i}.heads": (2, 4, 8, 16) for i in range(12)},
    }

    def active(self, choices: Choices) -> frozenset[str]:
        depth = int(choices["depth"])
        return frozenset(["depth", *(f"{i}.{kind}" for i in range(depth) for kind in ("width", "heads"))])


def drawn(count: int, seed: int = 0) -> list[dict[str, Option]]:
    rng = random.Random(seed)
    return [{name: rng.choice(options) for name, options in Layers.genes.items()} for _ in range(count)]


def cost(choices: Choices) -> float:
    return float(
        sum(int(choices[f"{i}.width"]) * (1 + int(choices[f"{i}.heads"]) / 16) for i in range(int(choices["depth"])))
    )


def saturating(choices: Choices) -> float:
    return 80 - 900 / (10 + math.sqrt(cost(choices)))


def test_sixty_samples_rank_better_than_with_a_ridge_on_plain_options() -> None:
    candidates, fresh = drawn(60), drawn(300, seed=1)
    true = [cost(c) for c in fresh]
    mean, _ = Predictor(Layers()).fit(candidates, [cost(c) for c in candidates]).predict(fresh)

    def plain(some: list[dict[str, Option]]) -> np.ndarray:
        return np.array(
            [[float(c[name] == o) for name, options in Layers.genes.items() for o in options] for c in some]
        )

    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(plain(candidates), [cost(c) for c in candidates])
    assert kendalltau(mean, true).statistic > kendalltau(ridge.predict(plain(fresh)), true).statistic + 0.1


def test_held_out_quality_agrees_with_fresh_candidates() -> None:
    predictor = Predictor(Layers()).fit(drawn(120), [saturating(c) for c in drawn(120)])
    fresh = drawn(400, seed=2)
    true = np.array([saturating(c) for c in fresh])
    mean, std = predictor.predict(fresh)
    rmse = float(np.sqrt(np.mean((mean - true) ** 2)))
    quality = predictor.quality
    assert quality.rmse == pytest.approx(rmse, rel=0.5)
    assert quality.kendall == pytest.approx(kendalltau(mean, true).statistic, abs=0.06)
    assert quality.relative_error == pytest.approx(quality.rmse / true.mean(), rel=0.05)
    assert quality.samples == 120
    # a standard deviation that means one: two of them cover most errors, and they are not blown up
    assert np.mean(np.abs(mean - true) < 2 * std) > 0.85
    assert std.mean() < 3 * rmse


def test_the_interaction_that_a_line_cannot_see_is_left_to_trees() -> None:
    def both(choices: Choices) -> float:
        return 1.0 if (choices["0.width"] == 512) != (choices["1.width"] == 512) else 0.0

    candidates, rng = drawn(200), np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 200)
    predictor = Predictor(Layers()).fit(candidates, [both(c) + n for c, n in zip(candidates, noise, strict=True)])
    assert "trees" in predictor.quality.model


def test_what_a_space_tells_needs_few_samples() -> None:
    class Telling(Layers):
        def traits(self, choices: Choices) -> tuple[float, ...]:
            return cost(choices), float(choices["depth"])

    few, fresh = drawn(20), drawn(200, seed=1)
    true = np.array([cost(c) for c in fresh])
    told, untold = (
        np.abs(Predictor(space()).fit(few, [cost(c) for c in few]).predict(fresh)[0] / true - 1).mean()
        for space in (Telling, Layers)
    )
    assert told < 1e-4
    assert untold > 0.01


def test_predictions_follow_the_scale_and_sign_of_the_values() -> None:
    candidates, fresh = drawn(50), drawn(20, seed=3)
    values = [cost(c) for c in candidates]
    mean, std = Predictor(Layers()).fit(candidates, values).predict(fresh)
    scaled, scaled_std = Predictor(Layers()).fit(candidates, [7 - 1e-3 * v for v in values]).predict(fresh)
    # the trees break ties between equal splits by rounding, hence no closer
    assert scaled == pytest.approx(7 - 1e-3 * mean, rel=0.01)
    assert scaled_std == pytest.approx(1e-3 * std, rel=0.2)


def test_inactive_genes_do_not_change_a_prediction() -> None:
    predictor = Predictor(Layers()).fit(drawn(40), [cost(c) for c in drawn(40)])
    shallow = {**drawn(1)[0], "depth": 6}
    other = {**shallow, "11.width": 512, "9.heads": 16, "6.heads": 2}
    mean, std = predictor.predict([shallow, other])
    assert mean[0] == mean[1]
    assert std[0] == std[1]


@pytest.mark.parametrize("samples", [2, 3, 5, 9])
def test_few_samples_are_enough_for_a_finite_answer(samples: int) -> None:
    predictor = Predictor(Layers()).fit(drawn(samples), [cost(c) for c in drawn(samples)])
    assert np.isfinite(np.concatenate(predictor.predict(drawn(10, seed=4)))).all()


def test_a_constant_is_predicted_as_itself() -> None:
    predictor = Predictor(Layers()).fit(drawn(30), [3.5] * 30)
    mean, std = predictor.predict(drawn(5, seed=5))
    assert mean == pytest.approx([3.5] * 5)
    assert std == pytest.approx([0.0] * 5, abs=1e-9)
    assert predictor.quality.kendall == 0.0


def test_the_same_seed_gives_the_same_predictions() -> None:
    values = [saturating(c) for c in drawn(40)]
    a, b = (Predictor(Layers(), seed=3).fit(drawn(40), values).predict(drawn(9, seed=6))[0] for _ in range(2))
    assert np.array_equal(a, b)


def test_the_baseline_is_a_line_through_one_feature() -> None:
    x = np.linspace(1, 3, 40)
    perfect = baseline_quality(x, 5 - 2 * x)
    assert perfect.kendall == pytest.approx(1.0)
    assert perfect.rmse == pytest.approx(0.0, abs=1e-9)
    noise = baseline_quality(np.random.default_rng(0).random(40), 5 - 2 * x)
    assert noise.kendall < 0.5
    assert noise.rmse > 0.9 * float(np.std(2 * x))


def test_what_cannot_be_fitted_is_refused() -> None:
    predictor = Predictor(Layers())
    with pytest.raises(BadOption, match="one value per candidate"):
        predictor.fit(drawn(3), [1.0, 2.0])
    with pytest.raises(BadOption, match="at least two values"):
        predictor.fit(drawn(1), [1.0])
    with pytest.raises(BadOption, match="finite"):
        predictor.fit(drawn(3), [1.0, 2.0, float("nan")])
    with pytest.raises(BadOption, match="one feature for each"):
        baseline_quality([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(NotInSpace, match="missing"):
        predictor.fit([*drawn(2), {}], [1.0, 2.0, 3.0])
