"""Transformer Fusion with Optimal Transport as published: the units of each layer are transported, from input to output.

The map of a layer's input is applied to the layer first. Then its units are compared with those of the reference, by weights
or by activations, and transported. Patches and positions have separate maps, which are mixed for the first block. In the
same way, the maps of the residual and of the branch are mixed at every sum.

Source: Imfeld et al., "Transformer Fusion with Optimal Transport", 2024, https://arxiv.org/abs/2310.05719; details as
in the code of the authors, https://github.com/graldij/transformer-fusion.
Differs: writing weights are scaled by the reference's number of units and reading weights by the source's, so that unequal
sizes preserve the function if the plans are right. Queries and keys are rescaled if the softmax scale or the number of
channels per head differs. `identity` between unequal sizes keeps the order. `joint` compares queries with queries (the
authors' code exchanges queries and keys on one side, with activations). Of texts the table of tokens has the part of patches,
which the paper has for BERT and the code has not. Constant activations count as zero. Windows work for
any grid, and the rule that the last block's output is compared on the class token only holds for any depth. With weights, the
channels of a class token are compared by sign; here their values break ties.
Limits: queries and keys have separate maps, and so have the writers of one stream. A source therefore changes its function
unless all maps agree, as they do for copies with permuted units. Sinkhorn blurs even those. With `matrix`, the shares of
reading weights do not sum exactly to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wb.core.errors import BadOption, Unsupported
from wb.fusion.align.similarity import Statistics
from wb.fusion.align.solvers import Matrix, couplings
from wb.fusion.forms.compatible import check_images, check_together
from wb.fusion.paper.covered import check
from wb.fusion.paper.maps import (
    EMBEDDING,
    Residual,
    Sizes,
    Tokens,
    compared,
    correlated,
    coupled,
    distances,
    mixed,
    sizes,
)
from wb.fusion.settings import Solver
from wb.models.axes import Couple
from wb.models.model import Model
from wb.models.network import build, skeleton
from wb.models.norms.base import NormModule
from wb.models.walk import Sublayer

REGULARISATION = {"activations": 0.08, "weights": 0.06}  # the authors' best, on CIFAR-10
_TIES = 1e-6  # weight of values, which break ties between equal signs


@dataclass(frozen=True)
class Paper:
    """Transports a model to the units and the architecture of another, the anchor; the fusion is then the average of the two.

    `reg` is Sinkhorn's regularisation, by default 0.08 for activations and 0.06 for weights. `residual` says how the maps of
    the residual and of the branch are mixed at a sum. `queries` have a map of their own (`separate`), share one with the keys
    (`equal`), or one map covers the units of both (`joint`). `tokens` selects the compared tokens.
    """

    stat: Literal["weights", "activations"] = "activations"
    solver: Solver = "sinkhorn"
    reg: float | None = None
    residual: Residual = "mean"
    queries: Literal["separate", "equal", "joint"] = "separate"
    tokens: Tokens = "all"

    def __call__(self, source: Model, reference: Model, images: Tensor | None) -> tuple[Model, dict[str, Matrix]]:
        """The transported source, with weights in float32, and the plans (source, reference) by name.

        `images` (n, channels, height, width) are float32 in [0, 1]; with `weights` they are needed only for the residuals
        `scalar` and `matrix`. Both models must have the same classes in the same order.

        Raises:
            BadData: the images do not have the shape that the models read.
            BadOption: images are needed and missing, classes differ, or the networks lack the tokens of `tokens`.
            Unsupported: the models have different blocks, or a part that the method does not cover; the first is named.
        """
        check_together([source.architecture, reference.architecture], ["the source", "the reference"], 1)
        check(source.architecture, reference.architecture)
        activations, weighed = self.stat == "activations", self.residual in ("scalar", "matrix")
        found, magnitudes = None, {}
        if activations or weighed:
            if images is None:
                what = "stat 'activations'" if activations else f"residual {self.residual!r}"
                raise BadOption(
                    f"{what} looks at activations and there are no images; give some, or take 'weights' and 'mean'"
                )
            check_images(images, reference.architecture)
            if activations:
                found = compared(source, reference, images, self.tokens, joint=self.queries == "joint")
            if weighed:
                magnitudes = sizes(reference, images, self.tokens)
        return _Transport(self, source, reference, found, magnitudes)()


@dataclass
class _Transport:
    """The transport of one source. Units are compared by `seen` (activations) if given, else by weights."""

    settings: Paper
    source: Model
    reference: Model
    seen: Statistics | None
    sizes: Sizes
    plans: dict[str, Matrix] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self) -> tuple[Model, dict[str, Matrix]]:
        """Transports layer by layer; each layer gets the map of its input."""
        own, reference = (build(model.architecture, "meta") for model in (self.source, self.reference))
        stream = self._embeddings()
        if reference.first is not None:
            self._norm("first", reference.first, stream)
        read = stream
        for sublayer in reference.walk():
            if sublayer.first or sublayer.wiring.chained:
                read = stream
            if sublayer.wiring.folds:  # its norm stands in front of it
                self._norm(sublayer.norm_prefix, sublayer.norm, read)
            if sublayer.kind == "mixer":
                added = self._attention(sublayer, own.at(sublayer.name), read)
            else:
                added = self._mlp(sublayer, read)
            stream = mixed(self.settings.residual, stream, added, self.sizes.get(sublayer.name))
            if not sublayer.wiring.folds:
                self._norm(sublayer.norm_prefix, sublayer.norm, stream)
        if reference.norm is not None:
            self._norm("norm", reference.norm, stream)
        for weight, bias in reference.answer.readers.items():
            self._put(weight, stream(self._own(weight), 1, "read"))
            if bias is not None:
                self._put(bias, self._own(bias))
        weights = {name: self.weights[name] for name in self.reference.weights}
        return Model(self.reference.architecture, weights, self.source.history), self.plans

    def _embeddings(self) -> Couple:
        """Transports class token, positions, and patches or tables; returns the map of the stream into the first block."""
        position = self._token("position")
        if "cls" in self.reference.weights:
            self._token("cls")  # its map is not used further
        tables = [f"stem.{name}" for name in skeleton(self.reference.architecture).stem.looked_up]
        tables = [name for name in tables if name in self.reference.weights]
        patch = self._table(tables) if tables else self._layer("patch", "stem.patches", "stem.patches_bias", None)
        return mixed(self.settings.residual, position, patch, self.sizes.get(EMBEDDING))

    def _attention(self, sublayer: Sublayer, own: Sublayer, stream: Couple) -> Couple:
        place, prefix = sublayer.place, sublayer.prefix
        if self.settings.queries == "separate":
            for letter in "qk":
                self._layer(f"{place}.{letter}", f"{prefix}.w{letter}", f"{prefix}.b{letter}", stream)
        else:
            self._queries(place, prefix, stream)
        factor = _score_factor(own, sublayer)
        for name in ("wq", "bq", "wk", "bk"):
            self._put(f"{prefix}.{name}", self.weights[f"{prefix}.{name}"] * factor)
        values = self._layer(f"{place}.v", f"{prefix}.wv", f"{prefix}.bv", stream)
        return self._layer(f"{place}.o", f"{prefix}.wo", f"{prefix}.bo", values)

    def _mlp(self, sublayer: Sublayer, stream: Couple) -> Couple:
        place, prefix = sublayer.place, sublayer.prefix
        hidden = self._layer(f"{place}.mlp", f"{prefix}.up", f"{prefix}.up_bias", stream)
        return self._layer(f"{place}.down", f"{prefix}.down", f"{prefix}.down_bias", hidden)

    def _layer(self, name: str, weight: str, bias: str, inputs: Couple | None) -> Couple:
        """Transports a weight and its bias, given the map `inputs` of its input; returns the map of its output."""
        own, other = self._rows(self.source, weight, bias, inputs), self._rows(self.reference, weight, bias)
        seen = self.seen
        cost = distances(own, other, unit=True) if seen is None else correlated(seen, name)
        map_ = self._map(name, cost)
        self._put(weight, map_(own, 0, "write"))
        self._put(bias, map_(self._own(bias).flatten(), 0, "write"))
        return map_

    def _queries(self, place: str, prefix: str, stream: Couple) -> None:
        """Transports queries and keys together: with one map for both (`equal`), or one over the units of both (`joint`)."""
        equal = self.settings.queries == "equal"
        pairs = [(f"{prefix}.w{letter}", f"{prefix}.b{letter}") for letter in "qk"]
        side = 1 if equal else 0  # concatenated side by side, or one above the other
        own = torch.cat([self._rows(self.source, *pair, stream) for pair in pairs], dim=side)
        other = torch.cat([self._rows(self.reference, *pair) for pair in pairs], dim=side)
        name = f"{place}.qk"
        if self.seen is None:
            cost = distances(own, other, unit=True)
        elif equal:
            cost = np.hypot(*(correlated(self.seen, f"{place}.{letter}") for letter in "qk"))
        else:
            cost = correlated(self.seen, name)
        map_ = self._map(name, cost)
        biases = torch.cat([self._own(bias).reshape(-1, 1) for _, bias in pairs], dim=side)
        moved = [map_(part, 0, "write").chunk(2, dim=side) for part in (own, biases)]
        for i, (weight, bias) in enumerate(pairs):
            self._put(weight, moved[0][i])
            self._put(bias, moved[1][i])

    def _token(self, name: str) -> Couple:
        """Transports a learned token, or one per position (N, D); always compared by values, never by activations."""
        own, other = (
            model.weights[name].double().reshape(-1, _width(model)) for model in (self.source, self.reference)
        )
        cost = distances(own.T, other.T)
        if self.seen is None:  # normalising a single number leaves its sign
            cost = distances(own.T, other.T, unit=True) + _TIES * cost / (cost.max() or 1.0)
        map_ = self._map(name, cost)
        self._put(name, map_(own, 1, "write"))
        return map_

    def _table(self, names: Sequence[str]) -> Couple:
        """Transports the channels of a table, compared as units of a layer are; further tables go with it."""
        own, other = (model.weights[names[0]].double() for model in (self.source, self.reference))
        cost = distances(own.T, other.T, unit=True) if self.seen is None else correlated(self.seen, "patch")
        map_ = self._map("patch", cost)
        for name in names:
            self._put(name, map_(self._own(name), 1, "write"))
        return map_

    def _norm(self, prefix: str, norm: NormModule, stream: Couple) -> None:
        for name in norm.axes:
            self._put(f"{prefix}.{name}", stream(self._own(f"{prefix}.{name}"), 0, "write"))

    def _map(self, name: str, cost: Matrix) -> Couple:
        settings = self.settings
        reg = REGULARISATION[settings.stat] if settings.reg is None else settings.reg
        self.plans[name] = couplings(cost, settings.solver, reg)
        return coupled(self.plans[name])

    def _rows(self, model: Model, weight: str, bias: str, inputs: Couple | None = None) -> Tensor:
        """The weight as a matrix (units, inputs), with the map `inputs` applied to the inputs."""
        rows = model.weights[weight].double().reshape(model.weights[bias].numel(), -1)
        return rows if inputs is None else inputs(rows, 1, "read")

    def _own(self, name: str) -> Tensor:
        return self.source.weights[name].double()

    def _put(self, name: str, value: Tensor) -> None:
        self.weights[name] = value.reshape(self.reference.weights[name].shape).float()


def _width(model: Model) -> int:
    return model.architecture.stages[0].embed


def _score_factor(own: Sublayer, other: Sublayer) -> float:
    """The factor of queries and keys that preserves attention scores under another softmax scale or number of channels."""
    scales = [at.operator.sizes["qk"] * at.operator.record.factor for at in (own, other)]
    if scales[0] == scales[1]:
        return 1.0
    if scales[0] * scales[1] <= 0:
        raise Unsupported(
            f"the softmax scales of block {other.place} are of different signs or zero in the source and the reference; "
            "ot multiplies queries and keys by one number: train both with scales of one sign"
        )
    return float((scales[0] / scales[1]) ** 0.5)
