"""What a search needs to know about a set of architectures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wb.core.errors import NotInSpace

if TYPE_CHECKING:
    from wb.core.architecture import Architecture

Option = bool | int | float | str
Choices = Mapping[str, Option]


class Genes(Protocol):
    """Named categorical choices, some of which do not matter while others have certain values.

    This is all that a sampler or a predictor sees of a space, so either works on any discrete problem.
    """

    @property
    def genes(self) -> Mapping[str, tuple[Option, ...]]:
        """Every gene and its options, in a fixed order; ordered options go from small to large."""
        ...

    def active(self, choices: Choices) -> frozenset[str]:
        """The genes that have an influence at `choices` (a depth of 2 leaves the genes of the third block inactive)."""
        ...


@runtime_checkable
class Informed(Protocol):
    """A space that knows something of a candidate without evaluating it."""

    def traits(self, choices: Choices) -> tuple[float, ...]:
        """Finite numbers, always as many, that readings may go with, such as bytes of weights; cheap to compute."""
        ...


@runtime_checkable
class Coupled(Protocol):
    """A space with genes for which the same option throughout is a good guess."""

    @property
    def coupled(self) -> tuple[tuple[str, ...], ...]:
        """Sets of such genes, all precisions for example."""
        ...


@runtime_checkable
class Practised(Protocol):
    """A space that knows networks of its own which go against best practice; the sampler `generate` leaves them out."""

    @property
    def practices(self) -> Mapping[str, Callable[[Choices], bool]]:
        """Each best practice in a few words -> whether choices keep to it."""
        ...


class Space(Genes, Protocol):
    """A named set of architectures. Law: `decode(encode(a)) == a` for every `a` in the space."""

    @property
    def name(self) -> str:
        """What `wb spaces` calls it."""
        ...

    def decode(self, choices: Choices) -> Architecture:
        """The architecture that `choices` describe; genes that are inactive there are ignored.

        Raises:
            NotInSpace: a gene is missing, unknown, or has a value that is not among its options.
        """
        ...

    def encode(self, architecture: Architecture) -> dict[str, Option]:
        """The choices that give `architecture`; inactive genes have their first option.

        Raises:
            NotInSpace: the space does not contain it.
        """
        ...


def check_choices(genes: Mapping[str, tuple[Option, ...]], choices: Choices, where: str) -> None:
    """Raises `NotInSpace` unless `choices` gives every gene one of its options."""
    for name, options in genes.items():
        if name not in choices:
            raise NotInSpace(f"choice {name!r} is missing for space {where!r}; expected one of {list(options)}")
        if choices[name] not in options:
            raise NotInSpace(
                f"{name}={choices[name]!r} is not in space {where!r} ({_listed(options)}); see `wb spaces`"
            )
    unknown = sorted(set(choices) - set(genes))
    if unknown:
        raise NotInSpace(f"space {where!r} has no choice named {', '.join(unknown)}; it has {', '.join(genes)}")


def canonical(space: Genes, choices: Choices) -> dict[str, Option]:
    """`choices` with every inactive gene at its first option, so that equal networks have equal choices."""
    active = space.active(choices)
    return {name: choices[name] if name in active else options[0] for name, options in space.genes.items()}


def random_choices(space: Genes, rng: random.Random) -> dict[str, Option]:
    """Uniform over the options of every gene, made canonical."""
    return canonical(space, {name: rng.choice(options) for name, options in space.genes.items()})


def _listed(options: tuple[Option, ...]) -> str:
    return ", ".join(str(option) for option in options)
