"""A pass that replaces softmax attention in a trained model by kernelized-hash attention.

Source: Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", 2022, section 4.2.
Differs: the paper trains a network anew with one projection for queries and keys; here that shared projection is made from the
two of the softmax attention. Three candidates are tried in every block: the queries' projection, the keys' projection, and
the best common one, a projection whose product with itself is the positive part of (W + Wᵀ) / 2 for W = W_qᵀ W_k. The
candidate whose codes reproduce the softmax's attention best, by mean KL divergence of the rows, is used. Blocks are converted
in order of execution. Each learns on the tokens that the converted blocks before it produce, towards the attention maps of
the untouched model.
Limits: values and output projection stay and nothing is trained by gradients. Hashed attention is flatter than most softmax
attention, and an asymmetric one has no counterpart: fine-tune afterwards. All chosen images go through a block at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor
from torch.nn import functional as F

from wb import __version__
from wb.compress.binarize.hashing import STEPS, learned, targets, unit
from wb.core.architecture import Architecture, explain
from wb.core.errors import BadOption
from wb.core.layout import Layout
from wb.core.records import Hash, Softmax
from wb.data import Dataset
from wb.models.block import BlockModule, build_operator
from wb.models.layers.tensors import project
from wb.models.mixers.attention.softmax import SoftmaxAttention
from wb.models.mixers.linear import hash as operator
from wb.models.model import Model, Step, from_network
from wb.models.network import Network
from wb.models.walk import Sublayer
from wb.tasks.suited import check_fits

Shared = Literal["queries", "keys", "both"]
PAIRS = 2**23  # token pairs in one head over all images: with more tokens per image, fewer images are used
TINY = 1e-12


@dataclass(frozen=True)
class Converted:
    """The conversion of one block: the projection that queries and keys share now, and the KL divergence of each candidate."""

    shared: Shared
    divergence: Mapping[Shared, float]


@dataclass(frozen=True)
class HashAttention:
    """The pass: replaces softmax mixers by hash mixers, their hash functions learned from at most `images` training images.

    `blocks` names the blocks to convert (`s0.b3`); empty means all that have a softmax mixer. `bits`, `anchors` and `form` are
    fields of the hash record. `report(block, converted)` is called after each block. Labels are not used.
    """

    data: Dataset
    blocks: tuple[str, ...] = ()
    bits: int = 16
    anchors: int = 25
    form: Literal["kernel", "official"] = "kernel"
    images: int = 256
    seed: int = 0
    report: Callable[[str, Converted], None] | None = None

    def __call__(self, model: Model, /) -> Model:
        """The model with hash mixers.

        Raises:
            BadData: the data have another shape or number of classes.
            BadOption: no softmax mixer to convert, a block without one, sizes that no record takes, or fewer tokens than
                anchors.
        """
        architecture = self.converted(model.architecture)
        names = self._names(model.architecture)
        records = {name: b.mixer for name, _, b in architecture.blocks() if name in names and isinstance(b.mixer, Hash)}
        before, after = model.network(), model.network()
        found: dict[str, Converted] = {}
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            pictures = self._pictures(model.architecture)
            for name, at, twin, x, y in _walk(before, after, pictures):
                if name in records:
                    mixer, found[name] = _converted(at, x, y, records[name], generator)
                    twin.mixer = mixer
                    if self.report is not None:
                        self.report(name, found[name])
        return from_network(architecture, after, (*model.history, self._step(found, len(pictures))))

    def converted(self, architecture: Architecture) -> Architecture:
        """`architecture` with hash mixers. Raises `BadOption` as the pass does."""
        names = self._names(architecture)
        records = {
            name: self._record(block.mixer)
            for name, _, block in architecture.blocks()
            if name in names and isinstance(block.mixer, Softmax)
        }
        return architecture.with_blocks(
            lambda name, block: block.model_copy(update={"mixer": records[name]}) if name in records else block
        )

    def _names(self, architecture: Architecture) -> tuple[str, ...]:
        """The blocks to convert."""
        check_fits(architecture, self.data)
        if self.images < 1:
            raise BadOption(f"{self.images} images leave nothing to learn hash functions from; give 1 or more")
        known = [name for name, _, block in architecture.blocks() if isinstance(block.mixer, Softmax)]
        if not known:
            raise BadOption("this model has no softmax mixer that hash attention could replace; give one that has")
        unknown = sorted(set(self.blocks) - set(known))
        if unknown:
            raise BadOption(
                f"no block with a softmax mixer named {', '.join(unknown)}; this model has {', '.join(known)}"
            )
        return self.blocks or tuple(known)

    def _record(self, mixer: Softmax) -> Hash:
        """The record that replaces `mixer`."""
        kept = mixer.model_dump(include={"heads", "qk", "v", "reads", "writes"})
        try:
            return Hash.model_validate({**kept, "bits": self.bits, "anchors": self.anchors, "form": self.form})
        except ValidationError as error:
            raise BadOption(f"hash attention cannot have these sizes: {explain(error)}") from error

    def _pictures(self, architecture: Architecture) -> Tensor:
        """Training images, evenly spaced, as many as `images` and `PAIRS` allow: (B, channels, height, width)."""
        tokens = math.prod(architecture.layout.shape)
        count = min(self.images, len(self.data.train), max(1, PAIRS // tokens**2))
        return torch.from_numpy(self.data.train.pixels(np.arange(count) * len(self.data.train) // count))

    def _step(self, found: Mapping[str, Converted], images: int) -> Step:
        chosen: dict[str, JsonValue] = {name: converted.shared for name, converted in found.items()}
        arguments: dict[str, JsonValue] = {**self.data.origin, "images": images, "projections": chosen}
        arguments |= {"bits": self.bits, "anchors": self.anchors, "form": self.form}
        return Step(name="hash", arguments=arguments, seed=self.seed, version=__version__)


def _walk(
    before: Network, after: Network, pictures: Tensor
) -> Iterator[tuple[str, Sublayer, BlockModule, Tensor, Tensor]]:
    """Walks two networks side by side, `before` and `after`, over every block with a mixer.

    Yields the block's name, the mixer before, the block after, and the inputs of both mixers (B, N, D). The caller may change
    the block after: the following inputs come from the changed block.
    """
    x, y = before.begin(pictures), after.begin(pictures)
    for i in range(len(before.stages)):
        x, y = before.enter(x, i), after.enter(y, i)
        for block, twin in zip(before.blocks(i), after.blocks(i), strict=True):
            for at, other in zip(block.sublayers(before.wiring(i)), twin.sublayers(after.wiring(i)), strict=True):
                if at.kind == "mixer":
                    yield at.place, at, twin, at.read(x), other.read(y)
            x, y = block(before.wiring(i), x), twin(after.wiring(i), y)


def _converted(
    at: Sublayer, x: Tensor, y: Tensor, record: Hash, generator: torch.Generator
) -> tuple[operator.HashAttention, Converted]:
    """The hash mixer that replaces `at`: its target is the attention of `at` on tokens x, it learns on tokens y (B, N, D)."""
    mixer, layout = at.operator, at.operator.layout
    if not isinstance(mixer, SoftmaxAttention):
        raise TypeError(f"a {type(mixer).__name__} has no attention maps")
    maps = _maps(mixer, x)
    target = targets(maps)
    seed = int(torch.randint(2**31, (), generator=generator))  # the same anchors for all candidates
    tried: dict[Shared, operator.HashAttention] = {}
    for shared, (weight, bias) in projections(mixer).items():
        tried[shared] = _module(mixer, record, layout, weight, bias)
        _learn(tried[shared], y, target, seed, steps=0)
    divergence = {shared: _divergence(maps, one, y) for shared, one in tried.items()}
    best = min(divergence, key=divergence.__getitem__)
    _learn(tried[best], y, target, seed)
    return tried[best], Converted(best, divergence | {best: _divergence(maps, tried[best], y)})


def projections(mixer: SoftmaxAttention) -> dict[Shared, tuple[Tensor, Tensor]]:
    """What queries and keys could share, weights (H, K, D) and biases (H, K), of one softmax mixer."""
    bq, bk = (_bias(mixer, name) for name in ("wq", "wk"))
    q = _scale(mixer) * torch.cat([mixer.wq, bq[..., None]], dim=2)  # (H, K, D + 1)
    k = torch.cat([mixer.wk, torch.zeros_like(bk)[..., None]], dim=2)  # their bias does nothing in a softmax
    basis, factors = torch.linalg.qr(torch.cat([q, k], dim=1).double().mT)  # (H, D + 1, r), (H, r, 2K)
    one, other = factors.chunk(2, dim=2)
    product = one @ other.mT
    values, vectors = torch.linalg.eigh((product + product.mT) / 2)
    channels = q.shape[1]
    values, vectors = values[:, -channels:], vectors[..., -channels:]  # at most K of the 2K eigenvalues are positive
    both = (values.clamp(min=0).sqrt()[..., None] * (basis @ vectors).mT).to(q)  # (H, K, D + 1)
    both = F.pad(both, (0, 0, 0, channels - both.shape[1]))
    return {
        "queries": (mixer.wq, bq),
        "keys": (mixer.wk, bk),
        "both": (both[..., :-1], both[..., -1]),
    }


def _module(
    mixer: SoftmaxAttention, record: Hash, layout: Layout, weight: Tensor, bias: Tensor
) -> operator.HashAttention:
    """A hash mixer with that projection and the values and output of `mixer`; its hash functions are still to be learned."""
    module = build_operator(record, mixer.wq.shape[2], layout)
    if not isinstance(module, operator.HashAttention):
        raise TypeError(f"{record.module} is no hash attention")
    for name, beside in (("wv", module.bv), ("wo", module.bo)):
        getattr(module, name).copy_(getattr(mixer, name))
        beside.copy_(_bias(mixer, name))
    module.wq.copy_(weight)
    module.bq.copy_(bias)
    return module.eval()


def _learn(module: operator.HashAttention, y: Tensor, target: Tensor, seed: int, steps: int = STEPS) -> None:
    """Learns the hash functions of `module` on tokens y (B, N, D)."""
    u = unit(project(y, module.kept("wq"), module.bq))
    _, bits, anchors = module.hash.shape
    found = learned(u, target, bits, anchors, torch.Generator().manual_seed(seed), steps)
    for name, value in (("anchors", found.anchors), ("mean", found.mean), ("hash", found.planes)):
        getattr(module, name).copy_(value)


def _bias(mixer: SoftmaxAttention, weight: str) -> Tensor:
    """The bias beside a weight; zeros where the mixer has none."""
    bias = mixer.bias(weight)
    rows: Tensor = getattr(mixer, weight)[(..., 0) if weight in mixer.readers else (..., 0, 0)]
    return torch.zeros_like(rows) if bias is None else bias


def _scale(mixer: SoftmaxAttention) -> float:
    return mixer.record.factor


def _maps(mixer: SoftmaxAttention, x: Tensor) -> Tensor:
    """The softmax's weights: (B, N, D) -> (B, H, N, N)."""
    q, k = (project(x, mixer.kept(name), mixer.bias(name)) for name in ("wq", "wk"))
    return (_scale(mixer) * q @ k.mT).softmax(dim=-1)


def _divergence(maps: Tensor, module: operator.HashAttention, y: Tensor) -> float:
    """Mean KL divergence of the hashed attention's rows from the rows of `maps` (B, H, N, N)."""
    codes = module.codes(project(y, module.kept("wq"), module.bq))
    hashed = codes @ codes.mT + codes.shape[-1] + 1
    hashed = hashed / hashed.sum(dim=-1, keepdim=True)
    return float((maps * (maps.clamp(min=TINY) / hashed).log()).sum(dim=-1).mean())
