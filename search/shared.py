"""Which parameters of a space's networks are one: those of the same name on the same axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from wb.models.axes import Axis
from wb.models.named import axes_of
from wb.models.network import Network

Place = tuple[Axis | int, ...]  # the axis of every dimension, or the size of one that has none


class Shared:
    """The names under which a supernet keeps the parameters of networks, told by its largest ones.

    Two kinds of mixer may give the same name to parameters on other axes (`wu` of an LMU makes one number of each token, that of
    a state space `inner` channels), which cannot be views of one tensor: the second is kept as `NAME+1`.
    """

    def __init__(self, tops: Iterable[Network]) -> None:
        self._places: dict[str, list[Place]] = {}
        for top in tops:
            for name, place in _places(top).items():
                known = self._places.setdefault(name, [])
                if place not in known:
                    known.append(place)

    def of(self, network: Network) -> dict[str, str]:
        """The name in the supernet of every parameter of a network, by its own."""
        return {name: self._kept(name, place) for name, place in _places(network).items()}

    def _kept(self, name: str, place: Place) -> str:
        known = self._places.get(name, [])
        number = known.index(place) if place in known else 0
        return f"{name}+{number}" if number else name


def apart(weights: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """What is missing of a supernet of an earlier version, which kept parameters of one name and shape as one on any axes."""
    shared = {name: name.rpartition("+")[0] for name in expected if name not in weights}
    return {name: weights[one].clone() for name, one in shared.items() if one in weights}


def _places(network: Network) -> dict[str, Place]:
    return {
        name: tuple(size if axis is None else axis for axis, size in zip(axes, shape, strict=True))
        for name, axes in axes_of(network).items()
        for shape in [network.get_parameter(name).shape]
    }
