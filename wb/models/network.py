"""The torch network of an architecture: `build`, and `describe` back; and which axis every parameter lies on."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.architecture import Architecture, Block, Form, ImageInput, Stage
from wb.core.errors import Unsupported, out_of_memory
from wb.core.precision import precisions
from wb.core.records import Operator, Precision, Weighted
from wb.models.axes import Axes, Axis, read, write
from wb.models.lowbit import low_bit
from wb.models.operators._base import Grid, OperatorModule, parameter
from wb.models.stem import Merge

MAX_PARAMETERS = 1 << 31  # 8 GB, and training takes four times that


class Norm(nn.Module):
    """LayerNorm over the channels of a token."""

    axes: ClassVar[dict[str, Axes]] = {"gain": (write("embed"),), "shift": (write("embed"),)}

    def __init__(self, embed: int, eps: float, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.gain = parameter(embed, device=device)
        self.shift = parameter(embed, device=device)

    def reset(self) -> None:
        """One and zero."""
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x, (self.gain.shape[0],), self.gain, self.shift, self.eps)


class BlockModule(nn.Module):
    """Pre-norm: `x + mixer(norm1(x))`, then `x + ffn(norm2(x))`. Post-norm: `norm1(x + mixer(x))`, then `norm2(x + ffn(x))`.

    What the record leaves out is the identity: its norm is left out with it.
    """

    def __init__(
        self, block: Block, embed: int, grid: Grid, form: Form, eps: float, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.form = form
        self.mixer: OperatorModule | None = None
        self.ffn: OperatorModule | None = None
        if block.mixer is not None:
            self.norm1 = Norm(embed, eps, device)
            self.mixer = build_operator(block.mixer, embed, grid, device)
        if block.ffn is not None:
            self.norm2 = Norm(embed, eps, device)
            self.ffn = build_operator(block.ffn, embed, grid, device)

    def describe(self) -> Block:
        """The record of this module."""
        mixer, ffn = (None if part is None else describe_operator(part) for part in (self.mixer, self.ffn))
        return Block.model_validate({"mixer": mixer, "ffn": ffn})

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        if self.mixer is not None:
            x = x + self.mixer(self.norm1(x)) if self.form == "pre" else self.norm1(x + self.mixer(x))
        if self.ffn is not None:
            x = x + self.ffn(self.norm2(x)) if self.form == "pre" else self.norm2(x + self.ffn(x))
        return x


class Network(nn.Module):
    """Images (B, channels, height, width) in [0, 1] -> logits (B, classes); normalisation is inside.

    `form` says whether its blocks are pre-norm or post-norm; `norm` is the last norm, which only a pre-norm network has.
    """

    def __init__(self, architecture: Architecture, device: torch.device | str | None = None) -> None:
        super().__init__()
        a = architecture
        self.input, self.pool, self.labels = a.input, a.pool, a.labels
        self.form, self.norm_eps = a.norm, a.norm_eps  # there may be no norm to read them off
        self.precision, self.merge_precisions = a.head, [stage.merge for stage in a.stages]
        first, last = a.stages[0].embed, a.stages[-1].embed
        prefix = 1 if a.pool == "cls" else 0
        for name, values in (("mean", a.input.mean), ("std", a.input.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.stem = _load(a.stem.module)(a.stem, a.input.channels, first, device)
        grids = [Grid(rows, columns, prefix) for rows, columns in a.grids()]
        self.position = parameter(grids[0].tokens, first, device=device)
        self.cls = parameter(first, device=device) if prefix else None
        self.merges = nn.ModuleList(
            Merge(before.embed, grid[:2], after.embed, device)
            for before, after, grid in zip(a.stages, a.stages[1:], grids, strict=False)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(BlockModule(block, stage.embed, grid, a.norm, a.norm_eps, device) for block in stage.blocks)
            for stage, grid in zip(a.stages, grids, strict=True)
        )
        self.norm = Norm(last, a.norm_eps, device) if a.norm == "pre" else None
        self.head = parameter(a.classes, last, device=device)
        self.head_bias = parameter(a.classes, device=device)

    def reset(self) -> None:
        """Initial values for every parameter, drawn from torch's global generator."""
        for module in self.modules():
            if isinstance(module, (Norm, OperatorModule, Merge)):
                module.reset()
        self.stem.reset()
        for token in (self.position, self.cls):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)
        nn.init.trunc_normal_(self.head, std=0.02)
        nn.init.zeros_(self.head_bias)

    def normalised(self, pixel_values: Tensor) -> Tensor:
        """What the stem sees: (B, channels, height, width) -> the same shape."""
        normalised: Tensor = (pixel_values - self.mean.to(pixel_values)) / self.std.to(pixel_values)
        return normalised

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """What the first block sees: (B, channels, height, width) -> (B, N, D)."""
        x = self.stem(self.normalised(pixel_values)).flatten(2).transpose(1, 2)  # (B, rows*columns, D)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], dim=1)
        placed: Tensor = x + self.position
        return placed

    def pooled(self, x: Tensor) -> Tensor:
        """What the head reads: (B, N, D) -> (B, D)."""
        if self.norm is not None:
            x = self.norm(x)
        return x[:, 0] if self.cls is not None else x.mean(dim=1)

    def classify(self, x: Tensor) -> Tensor:
        """What follows the last block: (B, N, D) -> (B, classes)."""
        return F.linear(self.pooled(x), low_bit(self.head, self.precision, 1), self.head_bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.tokens(pixel_values)
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.merges[i - 1](x)
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        return self.classify(x)


def build(architecture: Architecture, device: torch.device | str | None = None) -> Network:
    """The exact skeleton of `architecture`, parameters uninitialised (`reset` or `load_state_dict` fills them).

    On the `meta` device it costs no memory, and `torch.func.functional_call` runs it on any matching weights.

    Raises:
        Unsupported: more than `MAX_PARAMETERS`, elsewhere than on `meta`, or no memory for them.
    """
    if torch.device(device or "cpu").type == "meta":
        return Network(architecture, device)
    count = sum(parameter.numel() for parameter in skeleton(architecture).parameters())
    if count > MAX_PARAMETERS:
        raise Unsupported(
            f"a network of {count:,} parameters is beyond the {MAX_PARAMETERS:,} that are computed with; choose smaller widths"
        )
    try:
        return Network(architecture, device)
    except RuntimeError as error:  # torch's, where memory cannot be had
        if not out_of_memory(error):
            raise
        raise Unsupported(
            f"there is no memory for a network of {count:,} parameters, {4 * count / 2**30:.2g} GB; free some, or choose "
            "smaller widths"
        ) from error


@lru_cache(maxsize=8)
def skeleton(architecture: Architecture) -> Network:
    """The network of `architecture` on the `meta` device, built once for all who need it one after the other.

    It is shared: look at it, or run it on weights with `torch.func.functional_call`, but do not change it, and not from two
    threads at once; `build` gives one of your own.
    """
    return build(architecture, "meta")


def describe(network: Network) -> Architecture:
    """The architecture of a network, read off its modules and the shapes of their parameters."""
    stages = []
    for i, blocks in enumerate(network.stages):
        embed = network.position.shape[1] if i == 0 else network.merges[i - 1].merge.shape[0]  # type: ignore[index]
        described = tuple(block.describe() for block in blocks)  # type: ignore[attr-defined]
        stages.append(Stage(embed=embed, blocks=described, merge=network.merge_precisions[i]))  # type: ignore[arg-type]
    return Architecture(
        input=ImageInput.model_validate(network.input.model_dump()),
        stem=network.stem.describe(),
        stages=tuple(stages),
        pool=network.pool,
        classes=network.head.shape[0],
        labels=network.labels,
        head=network.precision,
        norm=network.form,
        norm_eps=network.norm_eps,
    )


def axes_of(network: Network) -> dict[str, Axes]:
    """Every parameter's axes by their full names: `s0.embed`, `s0.b3.heads`, `stem.width`; labels lie on `classes`."""
    table: dict[str, Axes] = {
        "position": (None, write("s0.embed")),
        "head": (write("classes"), read(f"s{len(network.stages) - 1}.embed")),
        "head_bias": (write("classes"),),
    }
    if network.cls is not None:
        table["cls"] = (write("s0.embed"),)
    for name, module in network.named_modules():
        for local, axes in getattr(module, "axes", {}).items():
            table[f"{name}.{local}"] = tuple(_global(axis, name, len(network.stages)) for axis in axes)
    return table


def groups_of(network: Network) -> dict[str, tuple[str, ...]]:
    """The weights of every group of linear maps (`wb.core.precision`), in order of execution, by their full names."""
    table = {"stem": tuple(f"stem.{name}" for name, weight in network.stem.named_parameters() if weight.dim() == 4)}
    for i, stage in enumerate(network.stages):
        if i > 0:
            table[f"s{i}.merge"] = (f"merges.{i - 1}.merge",)
        for j, block in enumerate(cast(nn.ModuleList, stage)):
            table |= {
                f"s{i}.b{j}.{group}": tuple(f"stages.{i}.{j}.{name}" for name in names)
                for group, names in block_groups(cast(BlockModule, block)).items()
            }
    return table | {"head": ("head",)}


def block_groups(block: BlockModule) -> dict[str, tuple[str, ...]]:
    """`mixer.in`, `mixer.out`, `ffn.in`, `ffn.out`, those that are there, each with its weights' names in the block."""
    table = {}
    for part, operator in (("mixer", block.mixer), ("ffn", block.ffn)):
        if operator is not None and operator.writers:
            inner = {*operator.readers, *operator.between}
            table[f"{part}.in"] = tuple(f"{part}.{name}" for name in operator.axes if name in inner)
            table[f"{part}.out"] = tuple(f"{part}.{name}" for name in operator.writers)
    return table


def kept(network: Network) -> dict[str, Precision]:
    """What each weight of a linear map is kept in, by its full name, in order of execution."""
    chosen = precisions(describe(network))
    return {name: chosen[group] for group, names in groups_of(network).items() for name in names}


def kept_in_block(block: BlockModule) -> dict[str, Precision]:
    """The same for one block, by the names in it."""
    table: dict[str, Precision] = {}
    for group, names in block_groups(block).items():
        part, way = group.split(".")
        operator: OperatorModule = getattr(block, part)
        table |= dict.fromkeys(names, operator.reads if way == "in" else operator.writes)
    return table


def settle(module: nn.Module) -> None:
    """Rounds binary and ternary weights in place, once and for all, so that a graph of `module` has them as constants."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, OperatorModule):
                for name in (*part.readers, *part.between, *part.writers):
                    getattr(part, name).copy_(part.kept(name))
                part.reads = part.writes = "fp32"
            elif isinstance(part, Network):
                part.head.copy_(low_bit(part.head, part.precision, 1))
                part.precision = "fp32"


def build_operator(
    record: Operator, embed: int, grid: Grid, device: torch.device | str | None = None
) -> OperatorModule:
    """The module of a mixer's or feed-forward's record."""
    module: OperatorModule = _load(record.module)(record, embed, grid, device)
    if isinstance(record, Weighted):
        module.reads, module.writes = record.reads, record.writes
    return module


def describe_operator(module: OperatorModule) -> Operator:
    """The record of a module, with what its weights are kept in."""
    record = module.describe()
    if not isinstance(record, Weighted):
        return record
    return record.model_copy(update={"reads": module.reads, "writes": module.writes})


def _global(axis: Axis | None, module: str, stages: int) -> Axis | None:
    """`embed` of `stages.0.3.mixer` -> `s0.embed`; `heads` -> `s0.b3.heads`."""
    if axis is None or ("." in axis.name and not axis.name.startswith("previous.")):
        return axis
    parts = module.split(".")
    if parts[0] == "merges":
        after = int(parts[1]) + (0 if axis.name.startswith("previous.") else 1)
        return axis._replace(name=f"s{after}.embed")
    if parts[0] != "stages":  # the stem begins the first stage, the last norm ends the last
        return axis._replace(name=f"s{stages - 1 if parts[0] == 'norm' else 0}.{axis.name}")
    stage, block = parts[1], parts[2]
    return axis._replace(name=f"s{stage}.embed" if axis.name == "embed" else f"s{stage}.b{block}.{axis.name}")


def _load(path: str) -> Any:
    """The class that "package.file:Class" names."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
