"""Hash functions of kernelized-hash attention, learned so that tokens have like codes where they attended to each other.

Source: Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", 2022, section 4.2, after Liu et al.,
"Supervised Hashing with Kernels", 2012 (KSH), eq. 7-15: with K the centred kernel distances of tokens to anchors, find A such
that the codes H = sign(K Aᵀ) of p bits have products H Hᵀ next to p·S; S is 1 for the strongest entries of a row of the
attention, -1 for the weakest, 0 elsewhere. Bit by bit: for the residual R = p·S minus what the bits before do, maximise
aᵀKᵀRKa, first as a generalised eigenvalue problem, then with tanh(y / 2) = 2 / (1 + exp(-y)) - 1 in the place of the sign.
Differs: S is that of the softmax attention which is replaced, made symmetric (the products see nothing else), where the
published code takes that of the projected tokens themselves; all images count, each with an S of its own, for one set of hash
functions; the eigenvectors, which the published code leaves out, are the start, and the best that was seen by the true signs
is kept. A lies in the principal directions of K (`SMALLEST`), and its rows have the length that gives the values a mean square
of one, for the clipped gradient of the sign.
Limits: greedy, and local in each bit. Memory grows with images x heads x tokens².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.errors import BadOption
from wb.models.mixers.hash import kernel, sign

MARKED = 10  # of the strongest and of the weakest entries of a row
SHARE = 4  # at most one in so many
STEPS = 100
EVERY = 10  # steps between two looks at the true signs
PATIENCE = 2  # looks without a gain in any head, after which a bit is done
RATE, MOMENTUM = 0.5, 0.9
SMALLEST = 1e-3  # of the largest variance: directions of less are left out


@dataclass(frozen=True)
class HashFunctions:
    """Of every head: `anchors` (H, M, K) of length one, `mean` (H, M) of the kernel, `planes` (H, P, M)."""

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
    """S (B, H, N, N) of attention maps (B, H, N, N): 1, -1, 0, and halves where the two directions differ.

    `marked` entries of each row are strongest and as many weakest, at most a quarter of the tokens.
    """
    tokens = attention.shape[-1]
    count = min(marked, max(1, tokens // SHARE))
    found = torch.zeros_like(attention)
    found.scatter_(-1, attention.topk(count, dim=-1, largest=False).indices, -1.0)
    found.scatter_(-1, attention.topk(count, dim=-1).indices, 1.0)
    return (found + found.transpose(-1, -2)) / 2


def disagreement(codes: Tensor, target: Tensor) -> Tensor:
    """Of every head, the mean squared difference of codes' products, over their bits, and S: (H,)."""
    products = codes @ codes.transpose(-1, -2) / codes.shape[-1]
    return (products - target).square().mean(dim=(0, 2, 3))


def drawn(u: Tensor, bits: int, anchors: int, generator: torch.Generator) -> HashFunctions:
    """Anchors among the tokens u (B, H, N, K), others for each head, and random planes.

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
    """Hash functions for unit vectors u (B, H, N, K) whose codes' products are next to `target` S (B, H, N, N), symmetric.

    Without `steps` each bit stays the eigenvector it starts from.

    Raises:
        BadOption: there are fewer tokens than anchors.
    """
    start = drawn(u, bits, anchors, generator)
    bit = _Bit(start.seen(u), target * bits)
    planes = [bit.next(steps) for _ in range(bits)]
    return HashFunctions(start.anchors, start.mean, torch.stack(planes, dim=1))


class _Bit:
    """Finds one plane after the other: `seen` K (B, H, N, M) and the scaled target p·S (B, H, N, N) stay.

    Planes are found in the principal directions of K, each scaled to variance one, without those that have next to none:
    where nothing is to be gained elsewhere, they would be chosen, and a bit would be the rounding error of alike anchors.
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
        self.codes = seen.new_zeros((heads * images, tokens, 0))  # of the bits so far
        self.size = images * tokens * float(wanted.abs().amax().clamp(min=1))

    @torch.no_grad()
    def next(self, steps: int) -> Tensor:
        """The plane of one more bit (H, M)."""
        best = self._eigenvector()
        most = self._gain(sign(self._values(best)))
        weight, idle = best.clone(), 0
        optimizer = torch.optim.SGD([weight], lr=RATE, momentum=MOMENTUM, nesterov=True)
        for step in range(1, steps + 1):
            y = torch.tanh(self._values(weight) / 2)
            slope = self._applied(y) * (1 - y.square())  # of yᵀRy / 2 by the values, twice
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
        """(H, M) -> (H, B·N, 1)."""
        return self.rows @ weight[..., None]

    def _applied(self, y: Tensor) -> Tensor:
        """R y for y (H, B·N, C), R being never made."""
        each = y.reshape(*self.codes.shape[:2], -1)
        return (self.wanted @ each - self.codes @ (self.codes.mT @ each)).reshape(y.shape)

    def _gain(self, y: Tensor) -> Tensor:
        """yᵀRy of every head (H,)."""
        return (y * self._applied(y)).sum(dim=(1, 2))

    def _eigenvector(self) -> Tensor:
        """The direction of length one, hence values of variance one, that maximises yᵀRy: (H, M)."""
        middle = self.rows.mT @ self._applied(self.rows)
        lowest = middle.abs().sum(dim=(1, 2))[:, None] + 1  # below every eigenvalue, were it negative
        kept = middle - (~self.kept * lowest).diag_embed()
        found: Tensor = torch.linalg.eigh((kept + kept.mT) / 2).eigenvectors
        return found[..., -1]


def _size(values: Tensor) -> Tensor:
    """The root mean square of values (H, ·, C), never zero: (H, C)."""
    return values.square().mean(dim=1).sqrt().clamp(min=torch.finfo(values.dtype).tiny ** 0.5)


def unit(q: Tensor) -> Tensor:
    """Projected tokens (B, H, N, K) of length one."""
    return F.normalize(q, dim=-1)
