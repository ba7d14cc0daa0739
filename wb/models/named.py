"""The global names of the axes that a network's parameters lie on: `s0.embed`, `s0.b3.heads`, `s1.merge.kernel`."""

from __future__ import annotations

from wb.models.axes import Axes, Axis, write
from wb.models.layers.operator import PartModule
from wb.models.merges.base import PREVIOUS
from wb.models.network import Network


def axes_of(network: Network) -> dict[str, Axes]:
    """Every parameter's axes by their full names: `s0.embed`, `s0.b3.heads`, `stem.width`; labels lie on `classes`."""
    table: dict[str, Axes] = {}
    for end, stage in ((network.positions, 0), (network.answer, len(network.stages) - 1)):
        for name, axes in end.axes.items():
            table[name] = tuple(
                axis._replace(name=f"s{stage}.embed") if axis is not None and axis.name == "embed" else axis
                for axis in axes
            )
    if network.cls is not None:
        table["cls"] = (*(None,) * (network.cls.dim() - 1), write("s0.embed"))
    for name, module in network.named_modules():
        if isinstance(module, PartModule):
            for local, axes in module.axes.items():
                table[f"{name}.{local}"] = tuple(_global(axis, name, len(network.stages)) for axis in axes)
    return table


def sides(network: Network) -> dict[str, int]:
    """The side of every kernel that may differ between networks, by its name in `axes_of`: `s0.b3.mixer.kernel` -> 5."""
    return {
        axis.name: size
        for name, axes in axes_of(network).items()
        for axis, size in zip(axes, network.get_parameter(name).shape, strict=True)
        if axis is not None and axis.role == "side"
    }


def _global(axis: Axis | None, module: str, stages: int) -> Axis | None:
    """`embed` of `stages.0.3.mixer` -> `s0.embed`; `heads` -> `s0.b3.heads`."""
    if axis is None or ("." in axis.name and axis.name != PREVIOUS):
        return axis
    parts = module.split(".")
    if axis.role == "side":
        return axis._replace(name=f"{_place(parts)}.{axis.name}")
    if parts[0] == "merges":
        after = int(parts[1]) + 1
        own = f"s{after}.{axis.name}" if axis.name == "embed" else f"s{after}.merge.{axis.name}"
        return axis._replace(name=f"s{after - 1}.embed" if axis.name == PREVIOUS else own)
    if parts[0] == "wirings":
        return axis._replace(name=f"s{parts[1]}.{axis.name}")
    if parts[0] != "stages":  # stem and first norm begin the first stage, the last norm ends the last
        return axis._replace(name=f"s{stages - 1 if parts[0] == 'norm' else 0}.{axis.name}")
    stage, block = parts[1], parts[2]
    return axis._replace(name=f"s{stage}.embed" if axis.name == "embed" else f"s{stage}.b{block}.{axis.name}")


def _place(module: list[str]) -> str:
    """The name of a part, of the words in that of its module: `stages.0.3.mixer` -> `s0.b3.mixer`, `merges.0` -> `s1.merge`."""
    if module[0] == "merges":
        return f"s{int(module[1]) + 1}.merge"
    return f"s{module[1]}.b{module[2]}.{module[3]}" if module[0] == "stages" else module[0]
