"""Saliency of coupled channels: the squared gradient of a gate on the channel, divided by the channel's cost.

A gate g = 1 multiplies the channel at every reader (a layer that reads it). Its gradient dL/dg is the sum of w · dL/dw over
all weights w of the readers that see the channel. It is computed per mini-batch, squared, and averaged over mini-batches:

    I = mean over batches of (Σ over readers, Σ over weights w of the channel: w · dL/dw)², divided by the channel's cost.

Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (squared group Taylor). The final
criterion of NViT (Yang et al., CVPR 2023, eq. 5) amounts to the same.
Differs: only readers are summed; writers (the layers that write the channel) only if there are no readers. A writer with its
bias, through a ReLU, has the gradient of the same gate, so torch-pruning's sum over both counts it twice. Through a BatchNorm,
a writer has the gradient of a gate before the norm, which corresponds to no removal. Every batch counts, unlike in
torch-pruning 1.6's GroupHessianImportance, which overwrites its sum and keeps only the last sample. Scores are not normalised
within a group, so they can be compared across groups.
Limits: a weight shared by two layers is counted in both. Readers other than convolutions and linear layers (an output, a norm
over channels) are not in the gate. The cost of a unit is first order: the savings in its own layers while all others keep
their width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from wb.compress.depgraph.graph import Traced, layer_macs
from wb.core.errors import BadArtefact, BadData, BadOption

Cost = Literal["macs", "params", "none"]


class GateFisher:
    """The gate-Fisher importance, as torch-pruning calls it: group -> score of each channel of the group's root.

    `traced` is the graph of the module whose gradients are observed. MACs are counted on `example` (B, …).
    """

    def __init__(self, traced: Traced, example: Tensor, cost: Cost = "macs") -> None:
        self.traced = traced
        self.layers = {
            name: layer for name, layer in traced.module.named_modules() if isinstance(layer, _ConvNd | nn.Linear)
        }
        self.price: dict[nn.Module, int] = {}
        if cost == "macs":
            macs = layer_macs(traced.module, example)
            self.price = {layer: macs.get(name, 0) for name, layer in self.layers.items()}
        elif cost == "params":
            self.price = {layer: layer.weight.numel() for layer in self.layers.values()}
        elif cost != "none":
            raise BadOption(f"no cost {cost!r}; there are macs, params and none")
        self._inputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in self.layers.values()}
        self._outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in self.layers.values()}

    def observe(self, model: nn.Module) -> None:
        """Adds the gradients of one mini-batch: `model` must hold those of its mean loss, and no others.

        Raises:
            BadArtefact: a weight is not finite.
            BadData: a gradient is not finite.
        """
        layers = {layer: name for name, layer in model.named_modules()}
        for layer, inputs in self._inputs.items():
            name = layers[layer]
            weight, bias = layer.weight, layer.bias
            product = self._product(name, weight)
            inputs.append(_by_input(layer, product))
            outputs = _by_output(layer, product)
            if bias is not None:
                outputs = outputs + self._product(name, bias)
            self._outputs[layer].append(outputs)

    @staticmethod
    def _product(name: str, weight: Any) -> Tensor:
        """w · dL/dw in double precision, shaped like the weight; 0 if the loss does not depend on the weight."""
        if weight.grad is None:
            return torch.zeros(weight.shape, dtype=torch.float64)
        if not weight.isfinite().all():
            raise BadArtefact(f"weights of {name} are not finite; give a trained module")
        if not weight.grad.isfinite().all():
            raise BadData(f"gradients of {name} are not finite; check the images and the module for odd values")
        product: Tensor = weight.detach().double() * weight.grad.double()
        return product.cpu()

    def gates(self, group: Any) -> Tensor:
        """The gradient dL/dg of each channel of the group's root in each mini-batch, (batches, channels).

        Raises:
            BadOption: no mini-batch was observed.
        """
        readers = self.traced.readers(group)
        items = readers or self.traced.writers(group)
        sums = self._inputs if readers else self._outputs
        batches = len(next(iter(sums.values()), ()))
        if not batches:
            raise BadOption("the saliency observed no gradients; give it at least one mini-batch")
        total = torch.zeros(batches, len(group[0].idxs), dtype=torch.float64)
        for item in items:
            entries = torch.stack(sums[item.dep.target.module])[:, item.idxs]
            total.index_add_(1, torch.tensor(item.root_idxs), entries)
        return total

    def cost(self, group: Any) -> Tensor:
        """MACs or parameters that removing each channel of the group's root saves in its own layers, (channels,).

        Undefined for the cost `none`.
        """
        total = torch.zeros(len(group[0].idxs), dtype=torch.float64)
        for items, channels in ((self.traced.readers(group), _inputs), (self.traced.writers(group), _outputs)):
            for item in items:
                layer = item.dep.target.module
                share = torch.full((len(item.idxs),), self.price[layer] / channels(layer), dtype=torch.float64)
                total.index_add_(0, torch.tensor(item.root_idxs), share)
        return total.clamp(min=1)

    def __call__(self, group: Any) -> Tensor:
        """The score of each channel of the group's root, (channels,)."""
        return self.units(group, 1)

    def units(self, group: Any, parts: int) -> Tensor:
        """The score of each unit of `parts` channels (`Family`), with one gate on all of them, (units,)."""
        gates = self.gates(group)
        scores: Tensor = gates.view(len(gates), parts, -1).sum(1).square().mean(0)
        return scores / self.cost(group).view(parts, -1).sum(0) if self.price else scores


def _by_input(layer: nn.Module, product: Tensor) -> Tensor:
    """Sums of `product`, shaped like the layer's weight, over the weights of each input channel, (inputs,)."""
    if not isinstance(layer, _ConvNd):
        return product.sum(0)
    return product.flatten(1).sum(1) if layer.transposed else _grouped(product, layer.groups)


def _by_output(layer: nn.Module, product: Tensor) -> Tensor:
    """Sums of `product`, shaped like the layer's weight, over the weights of each output channel, (outputs,)."""
    if isinstance(layer, _ConvNd) and layer.transposed:
        return _grouped(product, layer.groups)
    return product.flatten(1).sum(1)


def _grouped(product: Tensor, groups: int) -> Tensor:
    """Sums of `product` over the kernel and over the rows of each of `groups` groups, (groups · columns,)."""
    columns = product.flatten(2).sum(2)
    return columns.view(groups, -1, columns.shape[1]).sum(1).flatten()


def _inputs(layer: Any) -> int:
    return int(layer.in_channels if isinstance(layer, _ConvNd) else layer.in_features)


def _outputs(layer: Any) -> int:
    return int(layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features)
