"""What spaces of genes share: which genes there are, the smallest network, and whether the largest can be built."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pydantic import ValidationError

from wb.core.architecture import Architecture, explain
from wb.core.errors import BadOption
from wb.core.records import Input
from wb.core.space import Choices, Option


class GeneSpace:
    """A space of networks for inputs of one kind. A choice with one option is no gene; `decode` makes it by itself.

    A final subclass has a `name`, `all_genes`, `decode` and `tops`.
    """

    name: str

    def __init__(self, given: Input, classes: int, labels: Sequence[str], preset: str) -> None:
        self.input, self.preset = given, preset
        self.classes, self.labels = classes, tuple(labels)

    @cached_property
    def all_genes(self) -> dict[str, tuple[Option, ...]]:
        """Every choice with its options, including choices with one option."""
        raise NotImplementedError

    @cached_property
    def genes(self) -> dict[str, tuple[Option, ...]]:
        return {name: options for name, options in self.all_genes.items() if len(options) > 1}

    @cached_property
    def _fixed(self) -> dict[str, Option]:
        return {name: options[0] for name, options in self.all_genes.items() if len(options) == 1}

    def decode(self, choices: Choices) -> Architecture:
        raise NotImplementedError

    def tops(self) -> tuple[Architecture, ...]:
        """The largest networks of every kind, which together have every parameter."""
        raise NotImplementedError

    def smallest(self) -> Architecture:
        """The first option of every gene."""
        return self.decode({name: options[0] for name, options in self.genes.items()})

    def _check_tops(self, options: str) -> None:
        """Raises `BadOption` where a network exceeds the bounds of an architecture; `options` says which to choose instead."""
        try:
            self.tops()
        except ValidationError as error:
            raise BadOption(
                f"space {self.name!r} has networks that cannot be built ({explain(error)}); choose {options} with "
                "--set, or another preset (see `wb spaces`)"
            ) from error
