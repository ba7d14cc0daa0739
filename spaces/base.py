"""What a search needs to know about a space of networks, beside its genes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from wb.core.architecture import Architecture
from wb.core.records import Input, Precision
from wb.core.space import Choices, Space


class NetworkSpace(Space, Protocol):
    """A space of networks for images of one shape, whose weights nest: the largest ones contain all others."""

    input: Input
    classes: int
    labels: tuple[str, ...]
    preset: str

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What groups of linear maps may be kept in, from small to large."""
        ...

    @property
    def seeds(self) -> Mapping[str, Callable[[], Architecture]]:
        """The seed architectures by name, `largest` and `smallest` among them.

        Calling one raises `BadOption` where this preset has none of that name.
        """
        ...

    @property
    def known(self) -> Mapping[str, Architecture]:
        """Known networks that the space contains, by name; each name can be a file's."""
        ...

    @property
    def regular(self) -> Mapping[str, Architecture]:
        """Networks whose stages are alike, which a search looks at first; most promising ones first."""
        ...

    def smallest(self) -> Architecture:
        """The first option of every gene."""
        ...

    def smallest_of_each_precision(self) -> list[Architecture]:
        """The smallest network in each uniform precision, because the smallest file need not be the fastest."""
        ...

    def largest(self) -> Architecture:
        """The last option of every gene."""
        ...

    def usual(self) -> Architecture:
        """The network to train where none is named."""
        ...

    def tops(self) -> tuple[Architecture, ...]:
        """The largest networks of every kind, which together have every parameter."""
        ...

    def traits(self, choices: Choices) -> tuple[float, ...]:
        """Finite numbers from which readings may be predicted (`wb.core.space.Informed`)."""
        ...

    def forms(self, architecture: Architecture) -> Iterator[Architecture]:
        """Architectures of the same function that the space may contain, for example with other switched-off blocks."""
        ...

    def widening(self, architecture: Architecture) -> str:
        """The `--set` options that widen the space such that it contains `architecture`; empty if that is impossible."""
        ...
