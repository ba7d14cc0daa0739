"""The optimizer of a training: AdamW, in one place or two, or Muon for matrices and AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wb.core.errors import Unsupported
from wb.scale.states.interleaved import InterleavedAdamW
from wb.scale.states.pools import Link, Pool
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import Rates

ITERATIONS = 3  # of Newton-Schulz; 5, the default of torch, take a tenth of a small network's time for nothing
MOMENTUM = 0.95
FUSED = ("cpu", "cuda")  # where one kernel changes all weights, in a fifth of the time


class Optimizer:
    """One or two of torch's optimizers for `weights`; those named in `decayed` have weight decay.

    By recipe, `matrices` (name -> number of leading dimensions that are outputs) are trained with Muon: the step of each is its
    momentum, made orthogonal, so that every direction in which a layer can change does so equally. Convolutions are matrices of
    their output channels.

    A recipe that is interleaved has AdamW's moments on the processor while weights are on a GPU. `names` are those of the
    weights of each of the two, as their states number them.

    Raises:
        Unsupported: interleaved, and weights are not on a GPU.

    Source: Jordan et al., "Muon", 2024, https://kellerjordan.github.io/posts/muon/; Liu et al., "Muon is Scalable for LLM
    Training", 2025, for steps as large as AdamW's, so that both have one learning rate, or `Recipe.matrices` times it.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        recipe: Recipe,
        *,
        decayed: Collection[str],
        matrices: Mapping[str, int],
    ) -> None:
        orthogonal = {name: weights[name] for name in matrices} if recipe.optimizer == "muon" else {}
        orthogonal = {name: weight for name, weight in orthogonal.items() if weight.is_contiguous()}
        rest = {name: weight for name, weight in weights.items() if name not in orthogonal}
        fused = all(weight.device.type in FUSED for weight in rest.values())
        groups = _groups(rest, decayed, recipe)
        named = {id(weight): name for name, weight in rest.items()}
        adam = tuple(named[id(weight)] for group in groups for weight in group["params"])
        self.names: Mapping[str, tuple[str, ...]] = {"adam": adam, "muon": tuple(orthogonal)}
        settings: dict[str, Any] = {"lr": recipe.learning_rate, "betas": (0.9, recipe.second)}
        self._adam = (
            InterleavedAdamW(groups, _link(weights), fused=fused, **settings)
            if recipe.optimizer == "interleaved"
            else torch.optim.AdamW(groups, fused=fused, **settings)
        )
        self._flat = [(weight, _flat(weight, matrices[name])) for name, weight in orthogonal.items()]
        self._muon = _muon([flat for _, flat in self._flat], recipe) if self._flat else None
        self._faster = recipe.matrices

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._adam.zero_grad(set_to_none=True)
        for weight, _ in self._flat:
            weight.grad = None

    def step(self, rates: Rates) -> None:
        """Changes the weights by their gradients; a weight without one stays."""
        for group in self._adam.param_groups:
            group.update(lr=rates.learning_rate, betas=(rates.beta, group["betas"][1]))
        self._adam.step()
        for weight, flat in self._flat:
            flat.grad = None if weight.grad is None else weight.grad.reshape(flat.shape)
        if self._muon is not None:
            self._muon.param_groups[0]["lr"] = self._faster * rates.learning_rate
            self._muon.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"adam": self._adam.state_dict(), "muon": None if self._muon is None else self._muon.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._adam.load_state_dict(state["adam"])
        if self._muon is not None:
            self._muon.load_state_dict(state["muon"])


def _link(weights: Mapping[str, nn.Parameter]) -> Link:
    """The link between the processor and the GPU that has the weights."""
    device = next(iter(weights.values())).device
    if device.type != "cuda":
        raise Unsupported(
            "optimizer 'interleaved' shares its state between a processor and a GPU, and torch finds no GPU here; choose adamw"
        )
    return Link(Pool(), Pool(device))


def _muon(matrices: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Muon:
    return torch.optim.Muon(
        matrices,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=MOMENTUM,
        ns_steps=ITERATIONS,
        adjust_lr_fn="match_rms_adamw",
    )


def _groups(weights: Mapping[str, nn.Parameter], decayed: Collection[str], recipe: Recipe) -> list[dict[str, Any]]:
    kinds = ((True, recipe.weight_decay), (False, 0.0))
    groups = [
        {"params": [w for name, w in weights.items() if (name in decayed) == decays], "weight_decay": decay}
        for decays, decay in kinds
    ]
    return [group for group in groups if group["params"]]


def _flat(weight: nn.Parameter, outputs: int) -> nn.Parameter:
    """The same numbers as a matrix, which shares their memory."""
    rows = math.prod(weight.shape[:outputs])
    matrix: Tensor = weight.detach().view(rows, -1)
    return nn.Parameter(matrix)
