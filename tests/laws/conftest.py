"""What laws run on: everything that the catalogue knows, or few networks that have all of it between them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from tests.catalogue import CATALOGUE, OPERATORS, Placed
from tests.combinations import COMBINED, Combinations
from tests.networks import axes_within
from wb.core.architecture import Architecture
from wb.core.precision import PRECISIONS, TRAINED, allowed, with_precisions
from wb.core.records import ImageInput, Precision
from wb.fusion.forms.canonical import foldable
from wb.models.network import skeleton


@pytest.fixture(params=list(CATALOGUE))
def any_architecture(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue in turn."""
    return CATALOGUE[request.param]


@pytest.fixture(params=[name for name, a in CATALOGUE.items() if isinstance(a.input, ImageInput)])
def any_of_images(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue that takes images."""
    return CATALOGUE[request.param]


@pytest.fixture(params=[name for name, a in COMBINED.items() if isinstance(a.input, ImageInput)])
def any_combination_of_images(request: pytest.FixtureRequest) -> Architecture:
    """Each of few networks of many parts that takes images."""
    return COMBINED[request.param]


@pytest.fixture(params=list(COMBINED))
def any_combination(request: pytest.FixtureRequest) -> Architecture:
    """Each of few networks that have all parts of the catalogue between them, for what takes longer."""
    return COMBINED[request.param]


@pytest.fixture(params=list(OPERATORS))
def any_operator(request: pytest.FixtureRequest) -> Placed:
    """Each operator of the catalogue, as every place has it that is not like another."""
    return OPERATORS[request.param]


@pytest.fixture
def uncombined() -> set[tuple[str, ...]]:
    """What a block, its stage or its network has somewhere in the catalogue and in none of the few networks."""
    known, combined = (set().union(*map(Combinations.parts, networks.values())) for networks in (CATALOGUE, COMBINED))
    return {part for part in known - combined if len(part) == 1}


@pytest.fixture(params=[name for name, a in CATALOGUE.items() if axes_within(a)])
def any_with_heads(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue that has an axis within another."""
    return CATALOGUE[request.param]


def turnable(a: Architecture) -> bool:
    """Whether it has a stream that may be rotated."""
    network = skeleton(a)
    return any(foldable(network, i) for i in range(len(a.stages)))


@pytest.fixture(params=[name for name, a in CATALOGUE.items() if isinstance(a.input, ImageInput) and turnable(a)])
def any_turnable(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue that has a stream that may be rotated."""
    return CATALOGUE[request.param]


def mixed(a: Architecture, among: Sequence[Precision]) -> Architecture:
    """`a` with every group in one of `among`, drawn at random from those that it may be kept in."""
    draw = Random(a.key)
    return with_precisions(
        a, {group: draw.choice([p for p in options if p in among]) for group, options in allowed(a).items()}
    )


@pytest.fixture
def any_mixture(any_architecture: Architecture) -> Architecture:
    """Each architecture of the catalogue in random precisions."""
    return mixed(any_architecture, PRECISIONS)


@pytest.fixture
def any_mixed_combination(any_combination: Architecture) -> Architecture:
    """Each of few networks of many parts in random precisions."""
    return mixed(any_combination, PRECISIONS)


@pytest.fixture
def any_rounded(any_architecture: Architecture) -> Architecture:
    """Each architecture of the catalogue, its linear maps binary, ternary or in floating point at random."""
    return mixed(any_architecture, (*TRAINED, "fp32"))


@pytest.fixture(params=[name for name in CATALOGUE if name.endswith(("-patch", "-alone", "-post-cls", "-post-stages"))])
def one_rounded(request: pytest.FixtureRequest) -> Architecture:
    """The same for one architecture of every mixer and of every feed-forward, for what takes longer."""
    return mixed(CATALOGUE[request.param], (*TRAINED, "fp32"))
