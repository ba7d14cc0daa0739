"""Learning the hash functions of kernelized-hash attention, so that tokens that attend to each other get similar codes.

Source: Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", 2022, section 4.2, after Liu et al.,
"Supervised Hashing with Kernels", 2012 (KSH), eq. 7-15: with K the centred kernel distances of tokens to anchors, find A such
that the codes H = sign(K Aᵀ) of p bits have products H Hᵀ next to p·S; S is 1 for the strongest entries of a row of the
attention, -1 for the weakest, 0 elsewhere. Bit by bit: for the residual R = p·S minus the products of the earlier bits,
maximise aᵀKᵀRKa, first as a generalised eigenvalue problem, then with tanh(y / 2) = 2 / (1 + exp(-y)) - 1 instead of the sign.
Differs: S comes from the softmax attention that is replaced, made symmetric because the products are symmetric; the published
code takes S from the projected tokens themselves. All images count, each with its own S, for one set of hash functions. The
eigenvectors, which the published code leaves out, are the start, and the best plane by the true signs is kept. A lies in the
principal directions of K (`SMALLEST`). Its rows are scaled so that the values have mean square one, for the clipped gradient
of the sign.
Limits: greedy, and local in each bit. Memory grows with images x heads x tokens².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.errors import BadOption
from wb.models.mixers.linear.hash import kernel, sign

MARKED = 10  # strongest entries of a row that S marks, and as many weakest
SHARE = 4  # S marks at most one in so many entries each way
STEPS = 100
EVERY = 10  # steps between two evaluations by the true signs
PATIENCE = 2  # evaluations without a gain in any head, after which a bit is done
RATE, MOMENTUM = 0.5, 0.9
SMALLEST = 1e-3  # share of the largest variance: directions of K with less are left out


@dataclass(frozen=True)
class HashFunctions:
    """The hash functions of all heads: `anchors` (H, M, K) of length one, kernel `mean` (H, M), `planes` (H, P, M)."""

    anchors: Tensor
    mean: Tensor
    planes: Tensor

    def seen(self, u: Tensor) -> Tensor:
        """Centred kernel distances of unit vectors: (B, H, N, K) -> (B, H, N, M)."""
        return kernel(u, self.anchors) - self.mean[:, None, :]

    def codes(self, u: Tensor) -> Tensor:
        """Signs: (B, H, N, K) -> (B, H, N, P)."""
        return sign(self.seen(u) @ self.planes.transpose(-1, -2))


def targets(attention: Tensor, marked: int = MARKED) -> Tensor:
    """The target S (B, H, N, N) of attention maps (B, H, N, N): 1, -1 or 0, and halves where a pair's two entries differ.

    In each row the `marked` strongest entries are 1 and as many weakest -1, at most a quarter of the tokens each.
    """
    tokens = attention.shape[-1]
    count = min(marked, max(1, tokens // SHARE))
    found = torch.zeros_like(attention)
    found.scatter_(-1, attention.topk(count, dim=-1, largest=False).indices, -1.0)
    found.scatter_(-1, attention.topk(count, dim=-1).indices, 1.0)
    return (found + found.transpose(-1, -2)) / 2


def disagreement(codes: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference between S and the codes' products over their bits, per head: (H,)."""
    products = codes @ codes.transpose(-1, -2) / codes.shape[-1]
    return (products - target).square().mean(dim=(0, 2, 3))


def drawn(u: Tensor, bits: int, anchors: int, generator: torch.Generator) -> HashFunctions:
    """Random hash functions: anchors drawn among the tokens u (B, H, N, K), separately for each head, and random planes.

    Raises:
        BadOption: there are fewer tokens than anchors.
    """
    images, heads, tokens, channels = u.shape
    if images * tokens < anchors:
        raise BadOption(
            f"{anchors} anchors cannot be chosen among {images * tokens} tokens; give more images or ask for fewer anchors"
        )
    order = torch.stack([torch.randperm(images * tokens, generator=generator)[:anchors] for _ in range(heads)])
    flat = u.transpose(0, 1).reshape(heads, images * tokens, channels)
    points = flat.gather(1, order.to(u.device)[..., None].expand(-1, -1, channels))
    mean = kernel(u, points).mean(dim=(0, 2))
    planes = torch.randn(heads, bits, anchors, generator=generator).to(u)
    seen = HashFunctions(points, mean, planes).seen(u).transpose(0, 1).flatten(1, 2)  # (H, B·N, M)
    return HashFunctions(points, mean, planes / _size(seen @ planes.mT)[..., None])


def learned(
    u: Tensor, target: Tensor, bits: int, anchors: int, generator: torch.Generator, steps: int = STEPS
) -> HashFunctions:
    """Hash functions for unit vectors u (B, H, N, K), learned so that code products approach `target` S (B, H, N, N), symmetric.

    With no `steps` each bit stays at the eigenvector that it starts from.

    Raises:
        BadOption: there are fewer tokens than anchors.
    """
    start = drawn(u, bits, anchors, generator)
    bit = _Bit(start.seen(u), target * bits)
    planes = [bit.next(steps) for _ in range(bits)]
    return HashFunctions(start.anchors, start.mean, torch.stack(planes, dim=1))


class _Bit:
    """Finds one plane after the other, for `seen` K (B, H, N, M) and the scaled target p·S (B, H, N, N).

    Planes are sought in the principal directions of K, each scaled to variance one. Directions of next to no variance are left
    out: where no other direction gains anything they would be chosen, and a bit would then encode the rounding errors of nearly
    equal anchors.
    """

    def __init__(self, seen: Tensor, wanted: Tensor) -> None:
        images, heads, tokens, anchors = seen.shape
        rows = seen.transpose(0, 1).reshape(heads, images * tokens, anchors)
        variances, directions = torch.linalg.eigh(rows.mT @ rows / (images * tokens))
        self.kept = variances > SMALLEST * variances[:, -1:].clamp(min=SMALLEST)  # (H, M)
        scales = torch.where(self.kept, variances, torch.inf).rsqrt()
        self.directions: Tensor = directions * scales[:, None, :]  # (H, M, M)
        self.rows: Tensor = rows @ self.directions
        self.wanted = wanted.transpose(0, 1).reshape(heads * images, tokens, tokens)
        self.codes = seen.new_zeros((heads * images, tokens, 0))  # of the bits found so far
        self.size = images * tokens * float(wanted.abs().amax().clamp(min=1))

    @torch.no_grad()
    def next(self, steps: int) -> Tensor:
        """Finds the plane of one more bit (H, M)."""
        best = self._eigenvector()
        most = self._gain(sign(self._values(best)))
        weight, idle = best.clone(), 0
        optimizer = torch.optim.SGD([weight], lr=RATE, momentum=MOMENTUM, nesterov=True)
        for step in range(1, steps + 1):
            y = torch.tanh(self._values(weight) / 2)
            slope = self._applied(y) * (1 - y.square())  # twice the derivative of yᵀRy / 2 by the values
            weight.grad = -(self.rows.mT @ slope)[..., 0] / self.size
            optimizer.step()
            if step % EVERY == 0:
                gain = self._gain(sign(self._values(weight)))
                idle = 0 if bool((gain > most).any()) else idle + 1
                if idle == PATIENCE:
                    break
                best = torch.where((gain > most)[:, None], weight, best)
                most = torch.maximum(gain, most)
        code = sign(self._values(best)).reshape(*self.codes.shape[:2], 1)
        self.codes = torch.cat([self.codes, code], dim=2)
        plane: Tensor = (self.directions @ best[..., None])[..., 0]
        return plane / _size(self._values(best))

    def _values(self, weight: Tensor) -> Tensor:
        """Values of the tokens: (H, M) -> (H, B·N, 1)."""
        return self.rows @ weight[..., None]

    def _applied(self, y: Tensor) -> Tensor:
        """R y for y (H, B·N, C), without building R."""
        each = y.reshape(*self.codes.shape[:2], -1)
        return (self.wanted @ each - self.codes @ (self.codes.mT @ each)).reshape(y.shape)

    def _gain(self, y: Tensor) -> Tensor:
        """The objective yᵀRy per head (H,)."""
        return (y * self._applied(y)).sum(dim=(1, 2))

    def _eigenvector(self) -> Tensor:
        """The unit vector that maximises yᵀRy, with values of variance one: (H, M)."""
        middle = self.rows.mT @ self._applied(self.rows)
        lowest = middle.abs().sum(dim=(1, 2))[:, None] + 1  # subtracted, it puts a direction below all others
        kept = middle - (~self.kept * lowest).diag_embed()
        found: Tensor = torch.linalg.eigh((kept + kept.mT) / 2).eigenvectors
        return found[..., -1]


def _size(values: Tensor) -> Tensor:
    """Root mean square of values (H, ·, C), never zero: (H, C)."""
    return values.square().mean(dim=1).sqrt().clamp(min=torch.finfo(values.dtype).tiny ** 0.5)


def unit(q: Tensor) -> Tensor:
    """Projected tokens (B, H, N, K), scaled to length one."""
    return F.normalize(q, dim=-1)
