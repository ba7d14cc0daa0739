"""Rules: which tensors of theirs hold which of ours. A table of them is read both ways, so that one undoes the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wb.foreign.form import Shape, form


class Rule(NamedTuple):
    """Names of theirs and of ours, one of either or several of one side.

    Several of ours are stacked in theirs `along` a dimension (a fused qkv); several of theirs are the entries of ours
    along its first (a class and a distillation token). `form` says how each is laid out, nothing where they are laid out alike.
    So many rows in `front` of theirs are not ours: rows of no token. They are zero where nothing else is known of them.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    form: str = ""
    along: int = 0
    front: int = 0

    def shapes(self, ours: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of theirs, of those of ours."""
        if len(self.theirs) > 1:
            return dict.fromkeys(self.theirs, self._shape(ours[self.ours[0]][1:]))
        parts = [self._shape(ours[name]) for name in self.ours]
        shape = list(parts[0])
        shape[self.along] = self.front + sum(part[self.along] for part in parts)
        return {self.theirs[0]: tuple(shape)}

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors, of ours."""
        if len(self.theirs) > 1:
            return {name: self._out(part) for name, part in zip(self.theirs, ours[self.ours[0]], strict=True)}
        parts = [self._out(ours[name]) for name in self.ours]
        if self.front:
            parts.insert(0, parts[0].new_zeros(self.front, *parts[0].shape[1:]))
        return {self.theirs[0]: parts[0] if len(parts) == 1 else torch.cat(parts, dim=self.along)}

    def to_ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
        """Our tensors of those `shapes`, of theirs, which have the shapes that `shapes` says; views where possible."""
        if len(self.theirs) > 1:
            shape = shapes[self.ours[0]][1:]
            return {self.ours[0]: torch.stack([self._in(theirs[name], shape) for name in self.theirs])}
        lengths = [self._shape(shapes[name])[self.along] for name in self.ours]
        parts = theirs[self.theirs[0]][self.front :].split(lengths, dim=self.along)
        return {name: self._in(part, shapes[name]) for name, part in zip(self.ours, parts, strict=True)}

    def _shape(self, ours: Shape) -> Shape:
        return form(self.form).shape(ours) if self.form else ours

    def _out(self, ours: Tensor) -> Tensor:
        return form(self.form).to_theirs(ours) if self.form else ours

    def _in(self, theirs: Tensor, shape: Shape) -> Tensor:
        return form(self.form).to_ours(theirs, shape) if self.form else theirs


def front_of(one: Rule) -> str:
    """What rows in front of a tensor are called, that are handed back with it and are no rows of ours."""
    return f"{one.theirs[0]}[:{one.front}]"


def rule(theirs: str, ours: str, form: str = "") -> Rule:
    """A rule, of names that are separated by blanks."""
    return Rule(tuple(theirs.split()), tuple(ours.split()), form)


def within(theirs: str, ours: str, rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules of a part, of parts that stand in those places: every name begins with `theirs`, or with `ours`."""
    for one in rules:
        names = tuple(theirs + name for name in one.theirs), tuple(ours + name for name in one.ours)
        yield one._replace(theirs=names[0], ours=names[1])


def bare(rules: Iterable[Rule], prefix: str, names: Iterable[str]) -> list[Rule]:
    """The rules, their names without `prefix` where no name in the files has it, as in those of networks without a head."""
    if not prefix or any(name.startswith(prefix) for name in names):
        return list(rules)
    return [one._replace(theirs=tuple(name.removeprefix(prefix) for name in one.theirs)) for one in rules]


def pair(theirs: str, ours: str, bias: str, form: str = "", biased: str = "") -> tuple[Rule, Rule]:
    """The rules of a weight and its bias as torch's modules name them; ours may be several of each."""
    return rule(f"{theirs}.weight", ours, form), rule(f"{theirs}.bias", bias, biased)


def norm(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """The rules of a norm."""
    return pair(theirs, f"{ours}.gain", f"{ours}.shift")


def applying(rules: Iterable[Rule], shapes: Mapping[str, Shape]) -> list[Rule]:
    """The rules of a table whose tensors a network has: none for biases where it has no biases.

    Raises:
        ValueError: a parameter of the network has no rule, or several; then the family's table is wrong.
    """
    found = [one for one in rules if all(name in shapes for name in one.ours)]
    named = [name for one in found for name in one.ours]
    if sorted(named) != sorted(shapes):
        wrong = sorted({*shapes} ^ {*named}) or sorted({name for name in named if named.count(name) > 1})
        raise ValueError(f"the table has no rule, or several, for {', '.join(wrong)}")
    return found


def to_ours(rules: Iterable[Rule], read: Callable[[str], Tensor], shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """All our tensors; `read` gives one of theirs, each of which is asked for once."""
    found: dict[str, Tensor] = {}
    for one in rules:
        found |= one.to_ours({name: read(name) for name in one.theirs}, shapes)
    return {name: found[name] for name in shapes}


def to_theirs(rules: Iterable[Rule], ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """All their tensors by name, one after the other."""
    for one in rules:
        yield from one.to_theirs(ours).items()
