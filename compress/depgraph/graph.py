"""The dependency graph of a module: finding channels that are coupled and must be removed together, and removing them.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, through the package torch-pruning (1.6). Only its
graph is used: tracing, coupled groups, and the removal of entries.
Differs: `wb.compress.depgraph.pruning` decides which channels to remove, because the ratio of torch-pruning's pruners counts
channels and not MACs. The graph is verified: `trusted` removes a channel and compares the result with the same channel
masked. This detects attention heads, which the graph does not know, and other reshaping.
Limits: removing channels under a LayerNorm or GroupNorm changes its statistics, so it does not equal masking; there only the
shape of the result is checked. Channels of nn.MultiheadAttention and of recurrent layers are never pruned.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from wb.core.errors import MissingExtra, Unsupported, reason

AGREE = 1e-4  # largest difference between a pruned and a masked module's outputs, as a share of the largest output
UNTOUCHED = ("MHA", "LSTM", "EMBED", "CUSTOMIZED", "OUTPUT")  # torch-pruning's kinds of layers that are not pruned here
NORMS = ("LN", "GN")  # kinds of norms over channels


class Size(NamedTuple):
    """Multiply-accumulates of one image (convolutions and matrix products), and the number of parameters."""

    macs: int
    params: int


@dataclass(frozen=True)
class Family:
    """A family of coupled channels, which can be removed only together; `root` is the layer that writes the first of them.

    Its `units` can be removed one by one. Unit u consists of the root's output channels u, u + units, u + 2·units, …, in all
    `parts` channels, because layers that work in groups of channels need groups of equal size. `exact` says that removing a
    unit equals masking it.
    """

    root: str
    units: int
    parts: int
    exact: bool

    def channels(self, units: Sequence[int]) -> list[int]:
        """The output channels of the root that belong to `units`."""
        return [unit + part * self.units for part in range(self.parts) for unit in units]


Removals = Sequence[tuple[Family, Sequence[int]]]  # families, and the units to remove from each


def require() -> Any:
    """Imports and returns the package torch_pruning.

    Raises:
        MissingExtra: the package is not installed.
    """
    try:
        with _quiet():
            return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise MissingExtra(
            f"pruning a module by its dependency graph needs torch-pruning ({reason(error)}): pip install 'wb[depgraph]'"
        ) from error


class Traced:
    """The dependency graph of `module`, which is in eval mode, traced on the input `example` (B, …)."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """Raises `Unsupported` if torch-pruning cannot trace the module, and `MissingExtra` if it is not installed."""
        self.module = module
        self.tp = require()
        try:
            with _quiet(), torch.enable_grad(), fastpath(False):
                # In a tuple, because torch-pruning would pass each image of a bare tensor as an argument.
                self.graph = self.tp.DependencyGraph().build_dependency(module, (example,), verbose=False)
        except Exception as error:  # torch-pruning's errors have no common base class
            raise Unsupported(
                f"torch-pruning cannot trace {type(module).__name__} ({type(error).__name__}: {reason(error)}); "
                "give a module made of torch's layers, whose forward takes and gives one tensor"
            ) from error

    def group(self, root: str, channels: Sequence[int] | None = None) -> Any:
        """The torch-pruning group of all entries coupled to these output channels (default: all) of the layer `root`."""
        layer = self.module.get_submodule(root)
        pruner = self.graph.get_pruner_of_module(layer)
        wanted = range(pruner.get_out_channels(layer)) if channels is None else channels
        return self.graph.get_pruning_group(layer, pruner.prune_out_channels, list(wanted))

    def families(self) -> Iterator[Family]:
        """Yields the families that could lose a unit: those that reach neither the output nor a layer of `UNTOUCHED`."""
        names = {layer: name for name, layer in self.module.named_modules()}
        for group in self.graph.get_all_groups():
            kinds = {item.dep.target.type.name for item in group.items}
            parts = self._parts(group)
            channels = len(group[0].idxs)
            loose = any(index is None for item in group.items for index in item.root_idxs)
            if kinds.intersection(UNTOUCHED) or self._ends(group) or loose or channels % parts or channels <= parts:
                continue
            root = names[group[0].dep.target.module]
            yield Family(root, channels // parts, parts, kinds.isdisjoint(NORMS))

    def _ends(self, group: Any) -> bool:
        """Whether the channels of `group` are outputs of the network, such as classes."""
        return any(
            not item.dep.target.outputs and self.graph.is_out_channel_pruning_fn(item.dep.handler)
            for item in group.items
        )

    def _parts(self, group: Any) -> int:
        """The largest number of groups that a layer of `group` divides its channels into; other numbers must divide it."""
        found = 1
        for item in group.items:
            layer = item.dep.target.module
            if isinstance(layer, nn.GroupNorm):
                found = max(found, layer.num_groups)
            elif isinstance(layer, _ConvNd) and not depthwise(layer):
                found = max(found, layer.groups)
        return found

    def readers(self, group: Any) -> list[Any]:
        """The items of `group` that remove inputs of a convolution or linear layer."""
        functions = (self.tp.prune_conv_in_channels, self.tp.prune_linear_in_channels)
        return [item for item in group.items if item.dep.handler in functions]

    def writers(self, group: Any) -> list[Any]:
        """The items of `group` that remove outputs of a convolution or linear layer (for a depthwise one, inputs too)."""
        functions = (
            self.tp.prune_conv_out_channels,
            self.tp.prune_linear_out_channels,
            self.tp.prune_depthwise_conv_out_channels,
        )
        return [item for item in group.items if item.dep.handler in functions]


def pruned(module: nn.Module, example: Tensor, removals: Removals) -> nn.Module:
    """A copy of `module` with the units removed. Raises `Unsupported` if torch-pruning fails."""
    traced = Traced(copy.deepcopy(module), example)
    try:
        with _quiet(), torch.no_grad():
            for family, units in removals:
                traced.group(family.root, family.channels(units)).prune()
    except Exception as error:  # as in `Traced`
        raise Unsupported(f"torch-pruning cannot prune {type(module).__name__} ({reason(error)})") from error
    return traced.module


def masked(module: nn.Module, example: Tensor, removals: Removals) -> nn.Module:
    """A copy of `module` with the units masked: no layer reads them. `pruned` has to compute the same function."""
    traced = Traced(copy.deepcopy(module), example)
    with torch.no_grad():
        for family, units in removals:
            for item in traced.readers(traced.group(family.root, family.channels(units))):
                layer = item.dep.target.module
                keep = torch.ones(_inputs(layer), device=layer.weight.device, dtype=layer.weight.dtype)
                keep[item.idxs] = 0
                layer.weight.mul_(_over_inputs(layer, keep))
    return traced.module


def differs(module: nn.Module, example: Tensor, removals: Removals) -> str:
    """Compares `pruned` with `masked` on `example`: describes the first difference in shape or values; empty if none."""
    with torch.no_grad():
        expected = masked(module, example, removals)(example)
        try:
            given = pruned(module, example, removals)(example)
        except Exception as error:  # a forward pass may raise anything on unexpected shapes
            return f"it fails without them ({reason(error)})"
    if given.shape != expected.shape:
        return f"its output becomes {list(given.shape)} instead of {list(expected.shape)}"
    if not given.isfinite().all():
        return "its output is not finite"
    if all(family.exact for family, _ in removals):
        far = (given - expected).abs().max() / expected.abs().max().clamp(min=1)
        if far > AGREE:
            return f"its output is {float(far):.2g} away from that with them masked"
    return ""


def trusted(module: nn.Module, example: Tensor, families: Sequence[Family]) -> tuple[list[Family], dict[str, str]]:
    """The families from which a unit can be removed correctly; and root -> what goes wrong, for the others.

    All families are tried together first, and one by one only if that fails.
    """
    good: list[Family] = []
    bad: dict[str, str] = {}
    for exact in (True, False):
        some = [family for family in families if family.exact is exact]
        if not some or not _wrong(module, example, some):
            good += some
            continue
        for family in some:
            wrong = _wrong(module, example, [family])
            if wrong:
                bad[family.root] = wrong
            else:
                good.append(family)
    return good, bad


def _wrong(module: nn.Module, example: Tensor, families: Sequence[Family]) -> str:
    try:
        return differs(module, example, [(family, [0]) for family in families])
    except Unsupported as error:
        return str(error)


def measure_size(module: nn.Module, example: Tensor) -> Size:
    """MACs of one image and parameters of `module`."""
    return Size(layer_macs(module, example)[""], sum(p.numel() for p in module.parameters()))


def layer_macs(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Name of the submodule -> MACs of one image; "" is the whole module. A MAC is one multiplication and one addition."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), fastpath(False):
        module.eval()(example[:1])
    prefix = f"{type(module).__name__}."
    found = {
        name.removeprefix(prefix): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
        if name.startswith(prefix)
    }
    return found | {"": counter.get_total_flops() // 2}


def depthwise(layer: _ConvNd) -> bool:
    """Whether the convolution is depthwise as torch-pruning defines it: each output channel has its own group."""
    return layer.groups == layer.out_channels and layer.out_channels > 1


@contextmanager
def fastpath(enabled: bool) -> Iterator[None]:
    """Switches torch's fused attention and encoder layers; without them, each product is traced and has a gradient."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _inputs(layer: nn.Module) -> int:
    return int(layer.in_channels if isinstance(layer, _ConvNd) else layer.in_features)  # type: ignore[arg-type]  # a Linear


def _over_inputs(layer: nn.Module, values: Tensor) -> Tensor:
    """`values` (inputs,) in a shape that multiplies the layer's weight."""
    if not isinstance(layer, _ConvNd):
        return values
    sides = [1] * len(layer.kernel_size)
    if layer.transposed:
        return values.view(-1, 1, *sides)
    rows = values.view(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, dim=0)
    return rows.view(*rows.shape, *sides)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch-pruning's warnings of guessed dimensions of parameters; `trusted` verifies the guesses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
