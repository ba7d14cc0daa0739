"""The generator: which gene depends on which, what it draws, and what it learns from an archive."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.measures.metrics import METRICS
from wb.core.measures.requirements import Requirement
from wb.core.space import Choices, Option
from wb.predictors.features import Encoder
from wb.search.sampler.conditional import conditional
from wb.search.sampler.generator import Ancestry, Generator
from wb.search.sampler.inquisitor import Archive


class Nested:
    """A depth switches on mixers, a mixer other than `none` its heads; the ratio comes after what it switches on."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "embed": (8, 16),
        "depth": (1, 2, 3),
        **{
            f"b{i}.{name}": options
            for i in range(3)
            for name, options in (
                ("mixer", ("none", "pool", "attend")),
                ("heads", (1, 2, 4)),
                ("ffn", ("a", "b")),
                ("mlp", (0, 1)),
            )
        },
    }

    def active(self, choices: Choices) -> frozenset[str]:
        found = {"embed", "depth"}
        for i in range(int(choices["depth"])):
            found |= {f"b{i}.mixer", f"b{i}.mlp"}
            found |= {f"b{i}.heads"} if choices[f"b{i}.mixer"] == "attend" else set()
            found |= {f"b{i}.ffn"} if choices[f"b{i}.mlp"] else set()
        return frozenset(found)


ENCODER = Encoder(Nested())
UNIFORM = Generator.uniform(ENCODER, Ancestry.of(ENCODER))


def parent(gene: str) -> str | None:
    found = UNIFORM.ancestry.parents[ENCODER.names.index(gene)]
    return None if found < 0 else ENCODER.names[found]


def test_the_parent_is_the_gene_that_switches_a_gene_on_most_directly() -> None:
    assert [parent(gene) for gene in ("embed", "depth", "b0.mixer")] == [None, None, None]
    assert parent("b0.heads") == "b0.mixer"
    assert parent("b2.mixer") == "depth"
    assert parent("b2.heads") == "b2.mixer"
    assert parent("b1.ffn") == "b1.mlp"
    order = UNIFORM.ancestry.order
    assert sorted(order) == list(range(len(ENCODER.names)))
    assert all(p < 0 or order.index(p) < order.index(g) for g, p in enumerate(UNIFORM.ancestry.parents))


@given(st.integers(0, 2**31))
def test_draws_are_canonical_and_in_the_space(seed: int) -> None:
    rows = UNIFORM.draw(20, np.random.default_rng(seed))
    assert (rows == ENCODER.canonical(rows)).all()
    assert ((rows >= 0) & (rows < ENCODER.sizes)).all()


def test_a_uniform_generator_draws_every_option_alike() -> None:
    rows = UNIFORM.draw(6000, np.random.default_rng(0))
    shares = np.bincount(rows[:, ENCODER.names.index("depth")]) / len(rows)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


def test_counts_are_recovered_parent_by_parent() -> None:
    """Where b0 attends it has four heads, as a draw of a fitted generator shows; other genes stay as they were."""
    rows = UNIFORM.draw(4000, np.random.default_rng(1))
    mixer, heads = ENCODER.names.index("b0.mixer"), ENCODER.names.index("b0.heads")
    kept = rows[(rows[:, mixer] != 2) | (rows[:, heads] == 2)]
    drawn = UNIFORM.fitted(kept).draw(4000, np.random.default_rng(2))
    attending = drawn[drawn[:, mixer] == 2]
    assert (attending[:, heads] == 2).mean() > 0.98
    assert len(attending) / len(drawn) == pytest.approx((kept[:, mixer] == 2).mean(), abs=0.03)


@given(st.floats(0, 1))
def test_tables_stay_distributions(share: float) -> None:
    rows = UNIFORM.draw(10, np.random.default_rng(0))
    for table in UNIFORM.mixed(UNIFORM.fitted(rows), share).tables:
        assert (table > 0).all()
        assert table.sum(axis=1) == pytest.approx(np.ones(len(table)))


def test_a_stored_generator_is_read_again_and_one_of_another_space_refused() -> None:
    fitted = UNIFORM.fitted(UNIFORM.draw(50, np.random.default_rng(0)))
    again = UNIFORM.load(fitted.dump())
    for mine, its in zip(again.tables, fitted.tables, strict=True):
        assert mine == pytest.approx(its, abs=1e-3)
    with pytest.raises(ValueError, match="another space"):
        UNIFORM.load({**fitted.dump(), "embed": [[1.0]]})


def test_preferences_are_shares_of_active_genes() -> None:
    rows = UNIFORM.draw(400, np.random.default_rng(0))
    deep = UNIFORM.fitted(rows[rows[:, ENCODER.names.index("depth")] == 2])
    shares = deep.preferences()
    assert shares["depth"][3] > 0.98
    assert all(sum(options.values()) == pytest.approx(1) for options in shares.values())


def test_what_is_typical_of_a_requirement_is_learned_from_networks_that_were_not_sought_for_it() -> None:
    """Depth makes networks slow, and nothing else does: asked for a fast one, it proposes shallow ones, and all embeddings."""
    rows = UNIFORM.draw(300, np.random.default_rng(0))
    depth = ENCODER.names.index("depth")
    archive = Archive(rows, {"latency": rows[:, depth].astype(np.float64) + 1})
    for bound, expected in ((1.0, 0), (3.0, 2)):
        asked = [Requirement(METRICS["latency"], "<=", bound)]
        drawn = conditional(UNIFORM, archive, asked).draw(1000, np.random.default_rng(1))
        assert (drawn[:, depth] == expected).mean() > 0.8
        assert drawn[:, 0].mean() == pytest.approx(rows[:, 0].mean(), abs=0.1)


def test_of_few_networks_nothing_is_learned() -> None:
    rows = UNIFORM.draw(4, np.random.default_rng(0))
    archive = Archive(rows, {"latency": np.arange(1.0, 5.0)})
    found = conditional(UNIFORM, archive, [Requirement(METRICS["latency"], "<=", 1.0)])
    assert all((mine == its).all() for mine, its in zip(found.tables, UNIFORM.tables, strict=True))
