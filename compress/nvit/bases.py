"""Head bases: the channels of every softmax head in an order of what they contribute, an exact change of basis.

Channels of queries and keys matter together only: scores are products `q·k`, so that any invertible matrix on queries and its
inverse on keys change nothing. With Q the second moments of queries, P the covariance of keys (their mean adds the same to all
scores of a row) and Q^½P^½ = U S Vᵀ,

    W_q ← S^½ Uᵀ Q^-½ W_q      W_k ← S^½ Vᵀ P^-½ W_k

and the biases alike. Then channel i adds scores of size S_i, no two channels add alike ones, and leaving out the last is the
best that a head with fewer channels can do. Likewise values and the writer, with O the covariance of a head's output and
O^½W_oᵀW_oO^½ = U S² Uᵀ:

    (W_v, b_v) ← S^½ Uᵀ O^-½ (W_v, b_v)      W_o ← W_o O^½ U S^-½

so that pruning by saliency, which takes single channels, takes what contributes least.

Source: Ashkboos et al., "SliceGPT", 2024, https://arxiv.org/abs/2401.15024, for pruning in bases that data give; the closed
forms are those of balanced truncation.
Differs: within heads, not in the residual stream, so that it is exact for every norm.
Limits: queries and keys where scores are nothing but products of them (`ScoredAttention`), values where a head averages them by
weights that sum to one (`convex`); weights of one or two bits stay as they are. Directions that hardly occur count as some
(`FLOOR`), so that the change of basis can be undone in single precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wb.core.precision import TRAINED
from wb.models.axes import Axes, CoupleWithin, remap
from wb.models.layers.attention import AttentionModule, ScoredAttention
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import skeleton
from wb.models.walk import State, Sublayer
from wb.training.fit import pick_device

FLOOR = 1e-6  # of the mean of the moments' eigenvalues: smaller ones count as this
STILL = 1e-24  # moments of a smaller mean are none: of a head that always gives the same, or is not listened to


def rebased(model: Model, images: Iterable[Tensor], keep: Collection[str] = ()) -> Model:
    """The same function, its heads in the bases that `images` (batches of inputs) give them; itself if it has no such heads.

    Channels of a kind in `keep` (`qk`, `v`) stay as they are.
    """
    found = {at: kinds for at in skeleton(model.architecture).walk() if (kinds := kinds_of(at.operator, keep))}
    if not found:
        return model
    seen = _observed(model, images, {at.name for at in found})
    weights, axes = dict(model.weights), axes_of(skeleton(model.architecture))
    for at, kinds in found.items():
        moments = seen[at.name]
        if "qk" in kinds:
            both = key_bases(moments.second("queries", centred=False), moments.second("keys", centred=True))
            for matrix, names in zip(both, (("wq", "bq"), ("wk", "bk")), strict=True):
                _change(weights, axes, at, names, "qk", matrix, matrix)
        if "v" in kinds:
            writer = weights[f"{at.prefix}.wo"].double().transpose(0, 1)  # (H, D, V)
            write, read = value_bases(moments.second("outputs", centred=True), writer)
            _change(weights, axes, at, ("wv", "bv", "wo"), "v", write, read)
    return replace(model, weights=weights)


def key_bases(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """What queries and keys are multiplied by, from the moments (H, K, K) of both; the product of the two is one."""
    q, q_inverse = _roots(queries)
    k, k_inverse = _roots(keys)
    u, s, v = torch.linalg.svd(q @ k)
    root = s.sqrt()[:, :, None]
    return root * (u.transpose(1, 2) @ q_inverse), root * (v @ k_inverse)


def value_bases(outputs: Tensor, writer: Tensor) -> tuple[Tensor, Tensor]:
    """What values are multiplied by, and what the writer (H, D, V) is; `outputs` (H, V, V) are those of the heads."""
    o, o_inverse = _roots(outputs)
    squares, u = torch.linalg.eigh(o @ writer.transpose(1, 2) @ writer @ o)
    squares = _something(squares)
    least = FLOOR**2 * squares.mean(1, keepdim=True)
    root = squares.flip(1).clamp(min=least).sqrt().sqrt()[:, :, None]
    turned = u.flip(2).transpose(1, 2)  # the largest first
    return root * (turned @ o_inverse), turned @ o / root


class _Moments:
    """Running moments of one mixer's heads, in float64: of queries, and of keys and outputs about their means."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[int, Tensor, Tensor]] = {}

    def add(self, name: str, x: Tensor, mask: Tensor | None) -> None:
        """Adds (B, H, N, C), of it the tokens that count by the mask (B, N)."""
        rows = x.double().transpose(0, 1)  # (H, B, N, C)
        flat = rows.flatten(1, 2) if mask is None else rows[:, mask.cpu()]  # (H, rows, C)
        count, total, squares = self.sums.get(name, (0, torch.zeros(()), torch.zeros(())))
        self.sums[name] = count + flat.shape[1], total + flat.sum(1), squares + flat.transpose(1, 2) @ flat

    def second(self, name: str, *, centred: bool) -> Tensor:
        """(H, C, C)."""
        count, total, squares = self.sums[name]
        mean = total / count * centred
        return squares / count - mean[:, :, None] * mean[:, None, :]


def kinds_of(operator: OperatorModule, keep: Collection[str]) -> list[str]:
    """The axes of a mixer that have data-weighted bases."""
    if not isinstance(operator, AttentionModule) or operator.precision("wq") in TRAINED:
        return []
    passes = operator.convex and operator.symmetries["v"] == "rotation" and operator.precision("wo") not in TRAINED
    found = {"qk": isinstance(operator, ScoredAttention), "v": passes}
    return [kind for kind, may in found.items() if may and kind not in keep]


def _observed(model: Model, images: Iterable[Tensor], names: Collection[str]) -> dict[str, _Moments]:
    """The moments of the mixers called `names`."""
    network = model.network(pick_device())
    found = {name: _Moments() for name in names}

    def step(state: State, at: Sublayer) -> State:
        operator = at.operator
        if at.name not in found or not isinstance(operator, AttentionModule):
            return at(state)
        x, moments, mask = at.read(state), found[at.name], state.context.mask
        hidden = operator.hidden(x, state.context)
        moments.add("outputs", hidden.unflatten(2, (operator.wv.shape[0], -1)).transpose(1, 2).cpu(), mask)
        if isinstance(operator, ScoredAttention):
            moments.add("queries", operator.projected(x, "wq").cpu(), mask)
            moments.add("keys", operator.projected(x, "wk").cpu(), mask)
        return at.add(state, at.joined(operator.written(hidden), state))

    with torch.inference_mode():
        for part in images:
            network.run(part.to(pick_device()), step)
    return found


def _change(
    weights: dict[str, Tensor],
    axes: Mapping[str, Axes],
    at: Sublayer,
    names: Sequence[str],
    kind: str,
    write: Tensor,
    read: Tensor,
) -> None:
    """Maps an axis within heads in those parameters of a mixer that are there, in float64."""
    full = [f"{at.prefix}.{name}" for name in names if f"{at.prefix}.{name}" in weights]
    couple = CoupleWithin(write, read, f"{at.place}.heads")
    given = {name: weights[name].double() for name in full}
    mapped = remap(given, {name: axes[name] for name in full}, {f"{at.place}.{kind}": couple})
    weights |= {name: weight.to(weights[name].dtype) for name, weight in mapped.items()}


def _roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric roots of (H, C, C), and their inverses, with eigenvalues of `FLOOR` at least."""
    values, vectors = torch.linalg.eigh(moments)
    values = _something(values)
    roots = values.clamp(min=FLOOR * values.mean(1, keepdim=True)).sqrt()[:, None, :]
    return vectors * roots @ vectors.transpose(1, 2), vectors / roots @ vectors.transpose(1, 2)


def _something(values: Tensor) -> Tensor:
    """Eigenvalues (H, C); ones for heads whose moments are below `STILL`, where a change of basis would have no bounds."""
    return torch.where(values.mean(1, keepdim=True) > STILL, values, torch.ones_like(values))
