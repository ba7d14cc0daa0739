"""What the inner search starts from: variants of known candidates in which coupled genes agree."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import optuna

from wb.core.space import Choices, Option
from wb.predictors.ensemble import Ensemble
from wb.predictors.features import Encoder, Floats
from wb.search.sampler.guided import GuidedSampler
from wb.search.sampler.inner import Models, Outcome
from wb.search.sampler.proposals import choose, initial_rows, propose, uniform_rows


class Mixed:
    """Three coupled genes, one of which lacks the smallest option, and a depth that switches the last one off."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (1, 2),
        "stem": ("int8", "fp32"),
        "0.kept": ("int4", "int8", "fp32"),
        "1.kept": ("int4", "int8", "fp32"),
    }
    coupled: ClassVar[tuple[tuple[str, ...], ...]] = (("stem", "0.kept", "1.kept"),)

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(list(self.genes)[: 2 + int(choices["depth"])])


def test_coupled_genes_agree_where_they_can_and_nothing_else_changes() -> None:
    encoder = Encoder(Mixed())
    start: list[Choices] = [{"depth": 2, "stem": "fp32", "0.kept": "int8", "1.kept": "int4"}]
    rows = uniform_rows(encoder, encoder.indices(start))
    assert [encoder.choices(row) for row in rows] == [
        {"depth": 2, "stem": "int8", "0.kept": "int8", "1.kept": "int8"},
        {"depth": 2, "stem": "fp32", "0.kept": "fp32", "1.kept": "fp32"},
        {"depth": 2, "stem": "fp32", "0.kept": "int4", "1.kept": "int4"},
    ]


def test_variants_are_canonical_and_distinct() -> None:
    encoder = Encoder(Mixed())
    start: list[Choices] = [{"depth": 1, "stem": stem, "0.kept": "int4", "1.kept": "fp32"} for stem in ("int8", "fp32")]
    rows = uniform_rows(encoder, encoder.indices(start))
    assert np.array_equal(rows, encoder.canonical(rows))
    assert len(rows) == len(np.unique(rows, axis=0)) == 4  # int8, fp32, and int4 with either stem


def test_a_space_without_coupled_genes_has_none() -> None:
    class Plain:
        genes = Mixed.genes

        def active(self, choices: Choices) -> frozenset[str]:
            return frozenset(choices)

    encoder = Encoder(Plain())
    assert uniform_rows(encoder, encoder.canonical(np.ones((3, 4), dtype=np.int64))).shape == (0, 4)


class Even:
    """Twelve layers; what is in one precision throughout costs nothing, and a step away from it costs most."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {f"{i}.kept": ("int8", "fp32") for i in range(12)}
    coupled: ClassVar[tuple[tuple[str, ...], ...]] = (tuple(genes),)

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(choices)


class Uneven(Ensemble):
    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        places = features[:, -15:-3].sum(axis=1)  # how many layers are in fp32
        cost = np.where(np.isin(places, (0, 12)), 0.0, 20.0 - np.abs(places - 6))
        return cost, np.ones(len(features))


def test_the_best_candidate_is_found_where_only_variants_lead_to_it() -> None:
    encoder, rng = Encoder(Even()), np.random.default_rng(0)
    rows = encoder.canonical(np.array([[0, 1] * 6, [1, 0] * 6]))
    archive = Outcome(rows, np.array([[20.0], [20.0]]), np.zeros(2))
    models = Models([Uneven(encoder.layout)])
    best = propose(encoder, models, archive, rows[:0], {row.tobytes() for row in rows}, 2, rng)
    assert [proposal.mean for proposal in best] == [[0.0], [0.0]]
    assert sorted(int(proposal.row.sum()) for proposal in best) == [0, 12]


class Traded(Ensemble):
    """Predicts how many layers are in fp32, or in int8."""

    fp32 = True

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        places = features[:, -15:-3].sum(axis=1)
        return (places if self.fp32 else 12 - places), np.ones(len(features))


class Opposed(Traded):
    fp32 = False


def test_what_is_being_evaluated_is_believed_to_be_as_predicted() -> None:
    encoder = Encoder(Even())
    models = Models([Traded(encoder.layout), Opposed(encoder.layout)], [Traded(encoder.layout)])
    pending = encoder.canonical(np.tril(np.ones((12, 12), dtype=np.int64)))  # 1 to 12 layers in fp32
    found = models.outcome(encoder, pending)
    np.testing.assert_array_equal(found.values, [[n, 12 - n] for n in range(1, 13)])
    np.testing.assert_array_equal(found.violation, np.arange(1, 13))


def test_a_batch_leaves_out_the_neighbours_of_what_is_being_evaluated() -> None:
    def outcome(values: list[list[float]]) -> Outcome:
        return Outcome(np.zeros((len(values), 1), dtype=np.int64), np.array(values), np.zeros(len(values)))

    archive = outcome([[0.0, 10.0], [10.0, 0.0]])
    pool = outcome([[2.0, 2.0], [1.9, 2.2], [8.0, 0.2]])
    assert choose(pool, archive, 1) == [0]
    assert choose(pool, archive + outcome([[2.0, 2.0]]), 1) == [
        2
    ]  # and not its neighbour, which adds as little as itself


def test_as_many_candidates_as_workers_are_spread_at_first() -> None:
    sampler = GuidedSampler(Even(), seed=0, batch=4, initial=4, workers=40)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    trials = [study.ask() for _ in range(40)]
    rows = [tuple(t.suggest_categorical(name, options) for name, options in Even.genes.items()) for t in trials]
    assert len(set(rows)) == 40
    expected = initial_rows(Encoder(Even()), 40, np.random.default_rng(sampler._seed))
    assert [[("int8", "fp32").index(str(kept)) for kept in row] for row in rows] == expected.tolist()
    for trial, row in zip(trials[:4], rows, strict=False):
        study.tell(trial, [row.count("fp32"), row.count("int8")])
    later = study.ask()
    for name, options in Even.genes.items():
        later.suggest_categorical(name, options)
    assert (
        "predicted" in study.trials[-1].user_attrs
    )  # four results are enough for predictors, though 36 workers are at it
