"""An ordinary vision transformer that torch-pruning can prune, and the same training and export that our models get.

torch-pruning traces modules, not our structured parameters; so a model is written anew with `nn.Conv2d`, `nn.Linear` and
`nn.LayerNorm`. `benchmarks/torch_pruning_methods.py` prunes it, `benchmarks/pruning.py` compares.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.core.records import Mlp, Softmax
from wb.core.specs import PIXELS
from wb.data import Dataset
from wb.export.graph import check_parity, export_module
from wb.hardware.device import Device
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.model import Model
from wb.models.network import Network
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import fit_module


class PlainAttention(nn.Module):
    """Softmax attention with separate projections. `heads` is set anew after pruning; `scale` stays the dense model's."""

    def __init__(self, embed: int, heads: int, qk: int, v: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.q = nn.Linear(embed, heads * qk)
        self.k = nn.Linear(embed, heads * qk)
        self.v = nn.Linear(embed, heads * v)
        self.out = nn.Linear(heads * v, embed)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = int(x.shape[1])
        q, k, v = (self._split(layer, x, tokens) for layer in (self.q, self.k, self.v))  # (B, H, N, channels)
        y = ((q * self.scale) @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(-1, tokens, self.v.out_features))

    def _split(self, layer: nn.Linear, x: Tensor, tokens: int) -> Tensor:
        return layer(x).reshape(-1, tokens, self.heads, layer.out_features // self.heads).transpose(1, 2)


class PlainMlp(nn.Module):
    """`down(activation(up(x)))`."""

    def __init__(self, embed: int, mlp: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(embed, mlp)
        self.down = nn.Linear(mlp, embed)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.down(self.activation(self.up(x)))


class PlainBlock(nn.Module):
    """Pre-norm attention and feed-forward, either of which may be missing."""

    def __init__(self, embed: int, attention: PlainAttention | None, mlp: PlainMlp | None, eps: float) -> None:
        super().__init__()
        self.norm1 = None if attention is None else nn.LayerNorm(embed, eps)
        self.attention = attention
        self.norm2 = None if mlp is None else nn.LayerNorm(embed, eps)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        if self.attention is not None and self.norm1 is not None:
            x = x + self.attention(self.norm1(x))
        if self.mlp is not None and self.norm2 is not None:
            x = x + self.mlp(self.norm2(x))
        return x


class PlainViT(nn.Module):
    """Images (B, channels, height, width) in [0, 1] -> logits (B, classes), for architectures that `to_plain` takes."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        _check(a)
        embed, eps = a.stages[0].embed, a.norm.eps
        self.image = (a.image.channels, a.image.height, a.image.width)
        for name, values in (("mean", a.image.mean), ("std", a.image.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.patches = nn.Conv2d(a.image.channels, embed, a.stem.patch, stride=a.stem.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, embed)) if a.prefix else None
        self.position = nn.Parameter(torch.zeros(1, a.layout.tokens, embed))
        self.blocks: Any = nn.ModuleList()
        for block in a.stages[0].blocks:
            m, f = block.mixer, block.ffn
            attention = None
            if isinstance(m, Softmax):
                attention = PlainAttention(embed, m.heads, m.qk, m.v, m.qk**-0.5 if m.scale is None else m.scale)
            mlp = PlainMlp(embed, f.mlp, f.activation) if isinstance(f, Mlp) else None
            self.blocks.append(PlainBlock(embed, attention, mlp, eps))
        self.norm = nn.LayerNorm(embed, eps)
        self.head = nn.Linear(embed, a.head.classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = (pixel_values - self.mean) / self.std
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, rows*columns, D)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x[:, 0] if self.cls is not None else x.mean(dim=1)
        return self.head(x)

    @property
    def attentions(self) -> list[PlainAttention]:
        """The attention modules of the blocks that have one."""
        return [block.attention for block in self.blocks if block.attention is not None]

    def widths(self) -> dict[str, int | list[int]]:
        """The width of the residual stream; heads, channels per head and feed-forward widths block by block."""
        blocks = list(self.blocks)
        attentions = [block.attention for block in blocks]
        return {
            "embed": self.patches.out_channels,
            "heads": [0 if m is None else m.heads for m in attentions],
            "qk": [0 if m is None else m.q.out_features // m.heads for m in attentions],
            "v": [0 if m is None else m.v.out_features // m.heads for m in attentions],
            "mlp": [0 if block.mlp is None else block.mlp.up.out_features for block in blocks],
        }


def to_plain(model: Model) -> PlainViT:
    """The same function as `model`, in modules that torch-pruning can trace.

    Raises:
        BadOption: several stages, a stem other than patches, a mixer other than softmax, or post-norm blocks.
        ArithmeticError: the logits differ by more than 1e-5 of max(1, |logit|).
    """
    network = model.network()
    plain = PlainViT(model.architecture).eval()
    with torch.no_grad():
        _copy(network, plain)
    images = torch.rand(8, *plain.image, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, given = network(images), plain(images)
    worst = float(((given - expected).abs() / expected.abs().clamp(min=1)).max())
    if not worst <= 1e-5:
        raise ArithmeticError(f"the plain network's logits differ by {worst:.2g}, where 1e-5 is allowed")
    return plain


def count_macs(plain: PlainViT) -> float:
    """Multiply-accumulates of one image, counted as `wb.models.counting.count_macs` counts those of a model."""
    twin = copy.deepcopy(plain).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.empty(1, *plain.image, device="meta"))
    return float(counter.get_total_flops() / 2)


def count_parameters(plain: PlainViT) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in plain.parameters())


def finetune(
    plain: PlainViT, data: Dataset, recipe: Recipe, teacher: Callable[[Tensor], Tensor] | None, seed: int
) -> PlainViT:
    """A copy, trained further exactly as `wb.training.train.Finetune` trains a model, on the CPU."""
    plain = copy.deepcopy(plain)
    fit_module(plain, data, recipe, task=CLASSES, seed=seed, teacher=teacher, warm=True)
    return plain


def export(plain: PlainViT, path: Path, metadata: Mapping[str, str] | None = None) -> Reading:
    """Writes the ONNX graph with the exporter and names that our models get; gives the largest difference of logits."""
    images = torch.rand(2, *plain.image, generator=torch.Generator().manual_seed(0))
    export_module(plain, {PIXELS: images}, path, metadata=metadata)
    return check_parity(plain, path, {PIXELS: images}, Device())


def _check(a: Architecture) -> None:
    mixers = {block.mixer.kind for _, _, block in a.blocks() if block.mixer is not None}
    norms = {a.norm, a.last, *(block.norm or a.norm for _, _, block in a.blocks())}
    wiring = a.stages[0].wiring
    plain = wiring.kind == "pre" and len(norms) == 1 and a.first is None and a.prefix == (a.head.pool == "first")
    plain = plain and a.position.kind == "learned"
    plain = plain and all(block.join is None for _, _, block in a.blocks())
    if len(a.stages) > 1 or a.stem.kind != "patch" or mixers - {"softmax"} or not plain:
        raise BadOption(
            f"a {wiring.title} architecture with {len(a.stages)} stages, a {a.stem.kind} stem and mixers {sorted(mixers)} has "
            "no plain form; give a pre-norm one with one norm throughout, no joins, learned positions, one stage, a patch stem "
            "and softmax"
        )


def _copy(network: Network, plain: PlainViT) -> None:
    """Copies the weights of `network` into `plain`."""
    stem: Any = network.stem
    norm: Any = network.norm
    pairs: list[tuple[Any, Tensor]] = [
        (plain.patches.weight, stem.patches),
        (plain.patches.bias, stem.patches_bias),
        (plain.position, network.position),
        (plain.norm.weight, norm.gain),
        (plain.norm.bias, norm.shift),
        (plain.head.weight, network.head),
        (plain.head.bias, network.head_bias),
    ]
    if plain.cls is not None and network.cls is not None:
        pairs.append((plain.cls, network.cls))
    stages: Any = network.stages
    for source, target in zip(stages[0], plain.blocks, strict=True):
        if source.mixer is not None:
            m, attention = source.mixer, target.attention
            pairs += [(target.norm1.weight, source.norm1.gain), (target.norm1.bias, source.norm1.shift)]
            for ours, theirs in (("q", attention.q), ("k", attention.k), ("v", attention.v), ("o", attention.out)):
                bias = getattr(m, f"b{ours}", None)
                pairs += [(theirs.weight, getattr(m, f"w{ours}"))]
                pairs += [(theirs.bias, torch.zeros_like(theirs.bias) if bias is None else bias)]
        if source.ffn is not None:
            f, mlp = source.ffn, target.mlp
            pairs += [(target.norm2.weight, source.norm2.gain), (target.norm2.bias, source.norm2.shift)]
            pairs += [(mlp.up.weight, f.up), (mlp.up.bias, f.up_bias)]
            pairs += [(mlp.down.weight, f.down), (mlp.down.bias, f.down_bias)]
    for target_weight, weight in pairs:
        if math.prod(target_weight.shape) != weight.numel():
            raise ValueError(f"a weight of shape {tuple(weight.shape)} does not fill {tuple(target_weight.shape)}")
        target_weight.copy_(weight.reshape(target_weight.shape))
