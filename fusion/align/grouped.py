"""Units within heads that lie on the channels of these heads too: queries that share keys and values.

Their weights can be compared once the channels of two heads are matched, which keys and values alone tell. So heads of keys and
values are compared as units, every two of them at the best maps of what lies within, and queries are assigned within them.

Limits: of heads that merge into one, units are put into one order and channels rotated alike; what is only permuted, as planes,
stays in the order of each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wb.fusion.align.similarity import Heads, flat, least, nearest_of, shared, usable
from wb.fusion.align.solvers import Matrix, assignment, within_heads
from wb.models.axes import Map, SelectWithin, remap


def cost(heads: Heads) -> Matrix:
    """The squared distance of every two heads after the best maps of what lies within them: (source, reference)."""
    found = heads.cost()
    for name in heads.units:
        found = found + heads.weighed(*_distances(heads, name))
    return found


def turned(heads: Heads, plan: Matrix, cost: Matrix) -> Heads:
    """As `Heads.turned`; units of heads that merge are put into the order of the nearest of these."""
    found = heads.turned(plan, cost)
    for name in heads.units:
        heads.source.turn({name: _ordered(found, name, nearest_of(plan, cost))})
    return found


def gauge(heads: Heads) -> float:
    """What keeps values as large as what reads them where heads get more or fewer units, each with readers of its own."""
    factor = 1.0
    for name in heads.units:
        parameter = _parameters(heads, name)[0]
        place = [on is not None and on.name == name for on in heads.source.axes[parameter]].index(True)
        own, other = (w.shape[place] for w in (heads.source.weight(parameter), heads.reference.weights[parameter]))
        factor *= (own / other) ** 0.25
    return factor


def _distances(heads: Heads, name: str) -> tuple[Matrix, Matrix, Matrix]:
    """The least squared distance of the units of every two heads, (source, reference), and squared norms of units (heads, n).

    The channels of each two heads have the maps that suit these two.
    """
    kind, within = heads.within_kinds[name], [axis for axis in heads.within_kinds if axis not in heads.units]
    columns, others, own = list[Matrix](), list[Matrix](), np.zeros(0)
    for number in range(heads.channels(within[0])[0].shape[1]):
        maps = {axis: _map(heads, axis, number) for axis in within}
        pairs = []
        for parameter in _parameters(heads, name):
            a, b, dimensions = heads.pair(parameter, within)
            a = remap({parameter: a}, {parameter: dimensions}, maps)[parameter]
            pairs.append([flat(weight.double(), dimensions, heads.axis, name) for weight in (a, b)])
        x = torch.cat([one for one, _ in pairs], dim=-1)  # (heads, n, everything else)
        y = torch.cat([one[number] for _, one in pairs], dim=-1)
        own, other = x.square().sum(2).numpy(), y.square().sum(1).numpy()
        columns.append(least((x @ y.T)[:, None], own, other[None], kind))
        others.append(other)
    return np.concatenate(columns, axis=1), own, np.stack(others)


def compared_now(heads: Heads, name: str) -> Tensor:
    """What an axis within heads is matched by once heads and all else within them have maps: (heads, source, reference).

    Inner products for a rotation, else squared distances.
    """
    kind = heads.within_kinds[name]
    maps = {axis: map_ for axis, map_ in heads.maps.items() if axis != name}
    products: Tensor | float = 0.0
    own: Tensor | float = 0.0
    other: Tensor | float = 0.0
    for parameter in usable(heads.source.axes, name, {*maps, *heads.source.fixed}):
        dimensions, b = heads.source.axes[parameter], heads.reference.weights[parameter]
        a = heads.source.mapped(parameter, maps)
        if kind != "rotation":
            a = shared(a, b, dimensions, {name: kind == "paired"})
        x, y = (flat(weight.double(), dimensions, heads.axis, name) for weight in (a, b))
        products = products + torch.einsum("hkr,hlr->hkl", x, y)
        own, other = own + x.square().sum(2), other + y.square().sum(2)
    if kind == "rotation":
        return torch.as_tensor(products)
    return torch.as_tensor(own)[:, :, None] + torch.as_tensor(other)[:, None, :] - 2 * torch.as_tensor(products)


def _ordered(heads: Heads, name: str, nearest: Matrix) -> Map:
    """The order in which each source head has its units most like those of its `nearest` head."""
    products: Tensor | float = 0.0
    for parameter in _parameters(heads, name):
        x = flat(heads.source.weight(parameter).double(), heads.source.axes[parameter], heads.axis, name)
        products = products + torch.einsum("hkr,hlr->hkl", x, x[torch.from_numpy(nearest)])
    plans = [assignment(-one.numpy()) for one in torch.as_tensor(products)]
    return SelectWithin(torch.from_numpy(np.stack([plan.argmax(axis=0) for plan in plans])), heads.axis)


def _map(heads: Heads, axis: str, number: int) -> Map:
    """What brings the channels of each source head to those of one head of the reference."""
    products, own, other = heads.channels(axis)
    compared = products[:, number].double()
    if heads.within_kinds[axis] != "rotation":
        compared = torch.from_numpy(own[:, :, None] + other[number][None, None, :]) - 2 * compared
    return within_heads(compared, heads.within_kinds[axis], heads.axis)[0]


def _parameters(heads: Heads, name: str) -> list[str]:
    """The parameters on the units."""
    known = {*heads.maps, *heads.source.fixed, heads.axis, *heads.within_kinds}
    return list(usable(heads.source.axes, name, known))
