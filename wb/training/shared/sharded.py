"""Optimizer states that the processes of a training divide among them, where they are large.

Each process keeps the moments of some weights, changes these, and hands them to the others.

Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020,
https://arxiv.org/abs/1910.02054, its first stage: of 16 bytes a parameter 8 are divided.
Differs: gradients are summed whole everywhere, as their norm is asked for before anything changes. Muon's matrices are divided as
AdamW's weights are. Weights are those of a whole optimizer to the bit, and so is the file of a checkpoint: any number of
processes continues what any other began.
Limits: a weight is one process's as a whole; weights and gradients themselves are everywhere. To write a checkpoint the first
process has all moments for a moment, and those of another one twice.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from wb.scale.team import Team
from wb.training.optimizer import Optimizer
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import Rates

LARGE = 1 << 25  # parameters from which on states are divided: their moments have 256 MB


class Sharded:
    """The optimizers of `weights`, as in `Optimizer`, of which this process of a `team` has its part.

    All processes call the same methods in the same order.
    """

    def __init__(
        self,
        team: Team,
        weights: Mapping[str, nn.Parameter],
        recipe: Recipe,
        *,
        decayed: Collection[str],
        matrices: Mapping[str, int],
    ) -> None:
        self._team, self._weights = team, weights
        self._whole = Optimizer(weights, recipe, decayed=decayed, matrices=matrices)  # has no states: it takes no step
        owners = dict[str, int]()
        for names in self._whole.names.values():  # each has some of both kinds
            owners |= shares({name: weights[name].numel() for name in names}, team.count)
        self._parts = [[name for name in weights if owners[name] == process] for process in range(team.count)]
        mine = {name: weights[name] for name in self._parts[team.rank]}
        self._own = Optimizer(mine, recipe, decayed=decayed, matrices={n: d for n, d in matrices.items() if n in mine})

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for weight in self._weights.values():
            weight.grad = None

    def step(self, rates: Rates) -> None:
        """Changes the weights by their gradients; a weight without one stays.

        Raises:
            ProcessLost: another process has ended.
        """
        self._own.step(rates)
        for process, names in enumerate(self._parts):
            self._team.agree((self._weights[name].detach() for name in names), process)

    def state_dict(self) -> dict[str, Any]:
        """The state that one `Optimizer` of all weights would have, in the first process; nothing in the others.

        Raises:
            ProcessLost: another process has ended.
        """
        own = self._own.state_dict()
        known = {kind: _named(own[kind], names) for kind, names in self._own.names.items()}
        if not self._team.leads:
            written = io.BytesIO()
            torch.save(known, written)
            self._team.hand_in(written.getvalue())
            return {}
        for content in self._team.handed_in():
            part = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            for kind, states in part.items():
                known[kind] |= states
        whole = self._whole.state_dict()
        for kind, names in self._whole.names.items():
            if whole[kind] is not None:
                whole[kind]["state"] = {i: known[kind][name] for i, name in enumerate(names) if name in known[kind]}
        return whole

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes this process's part of the state of one `Optimizer` of all weights."""
        own = self._own.state_dict()
        for kind, names in self._own.names.items():
            known = _named(state[kind], self._whole.names[kind])
            if own[kind] is not None:
                own[kind]["state"] = {i: known[name] for i, name in enumerate(names) if name in known}
        self._own.load_state_dict(own)

    def held(self) -> int:
        """How many numbers of moments this process has."""
        states = [
            state for kind in self._own.state_dict().values() if kind is not None for state in kind["state"].values()
        ]
        return sum(one.numel() for state in states for one in state.values() if torch.is_tensor(one) and one.dim())


def shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Whose each is of `count` processes, so that all have about as much: the largest first, to whom has least."""
    loads, owners = [0] * count, dict[str, int]()
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return owners


def optimizer_of(
    team: Team,
    weights: Mapping[str, nn.Parameter],
    recipe: Recipe,
    *,
    decayed: Collection[str],
    matrices: Mapping[str, int],
) -> Optimizer | Sharded:
    """The optimizer of a training: of several processes and large weights one that is divided."""
    whole = team.alone or sum(weight.numel() for weight in weights.values()) < LARGE
    if whole or len(weights) - len(matrices) < team.count:
        return Optimizer(weights, recipe, decayed=decayed, matrices=matrices)
    return Sharded(team, weights, recipe, decayed=decayed, matrices=matrices)


def _named(state: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any]:
    """The states of one of torch's optimizers by the names of the weights."""
    return {} if state is None else {names[i]: one for i, one in state["state"].items()}
