"""Convolutions with a batch norm behind each, for every part that is made of them.

Source: Ioffe and Szegedy, "Batch Normalization", 2015.
Differs: statistics are not tracked while weights are trained. They are found afterwards from training images
(`wb.training.statistics`), and then are parameters of the model; a supernet stores none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.models.axes import Axis, write
from wb.models.layers.operator import PartModule, Symmetry
from wb.models.layers.tensors import uniform_

EPSILON = 1e-5
FIRST = {"gain": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}  # before training


class Moments(NamedTuple):
    """Mean, its square and variance of every channel, summed over batches, and the number of batches."""

    mean: Tensor
    square: Tensor
    variance: Tensor
    batches: int


class Seen(NamedTuple):
    """One convolution as it was run: its input, its stride, what it gave, and that behind its norm."""

    x: Tensor
    stride: int
    raw: Tensor
    given: Tensor


class BatchNormed(PartModule):
    """A part with batch norms. Each has a gain, a shift, a mean and a variance, called `<name>_gain` and so on.

    In training a norm uses the statistics of the batch, otherwise those of the model. While the part is `watched` it adds up
    what it sees.
    """

    stream: ClassVar[Symmetry] = "permutation"
    watched: dict[str, Moments] | None = None
    looked_at: dict[str, Seen] | None = None
    folded = False
    eps = EPSILON
    """Of a norm that is a part by itself."""

    def norms(self, name: str, axis: Axis | str | int) -> None:
        """Declares a batch norm of the channels on `axis`, or of a fixed number of them."""
        self.holds(f"{name}_gain", axis)
        self.holds(f"{name}_shift", axis)
        self.finds(name, axis)

    def finds(self, name: str, axis: Axis | str | int) -> None:
        """Declares the statistics of a norm whose gain and shift are there."""
        for statistic in (_of(name, "mean"), _of(name, "variance")):
            self.holds(statistic, axis, trained=False)
            self.statistics.append(statistic)

    def reset(self) -> None:
        """As the part that has the norms does it; their gains and variances one, shifts and means zero."""
        super().reset()
        self._reset_norms()

    def reset_convolutions(self) -> None:
        """Initial values of a part that is made of convolutions: uniform in ±1/√fan_in, in order of execution."""
        for name in self.axes:
            weight = self.get_parameter(name)
            if weight.dim() == 4:
                uniform_(weight, weight[0].numel())
        self._reset_norms()

    @property
    def named_norms(self) -> Iterator[str]:
        """The names of its norms."""
        yield from (name.removesuffix("mean").removesuffix("_") for name in self.statistics if name.endswith("mean"))

    @property
    def neutral(self) -> dict[str, float]:
        """Parameters of norms -> the value with which they change nothing but the scale and mean of a batch."""
        return {_of(norm, what): value for norm in self.named_norms for what, value in FIRST.items()}

    @property
    def scaling(self) -> tuple[str, ...]:
        """Gains and shifts of the norms on the stream."""
        last = [norm for norm in self.named_norms if self.axes[_of(norm, "gain")] == (write("embed"),)]
        return tuple(_of(norm, what) for norm in last for what in ("gain", "shift"))

    def normed(self, y: Tensor, name: str, eps: float = EPSILON) -> Tensor:
        """A norm of what has its channels in the second dimension: (B, D, ...) -> (B, D, ...)."""
        self._watch(name, y)
        if self.training:
            return self._by_batch(y, name, eps)
        scale, shift = self.affine(name, eps)
        shape = (-1, *(1,) * (y.dim() - 2))
        return y * scale.view(shape) + shift.view(shape)

    def reader_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """What each reader makes of the operator's input, behind its norm: (B, D, ...) -> (B, its outputs, ...)."""
        return {name: self.convolved(x, name) for name in getattr(self, "readers", ())}

    def convolved(self, x: Tensor, name: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        """A convolution by the weight called `name`, which keeps the sides up to `stride`, and the norm behind it."""
        weight: Tensor = getattr(self, name)
        if weight.dim() == 2:
            weight = weight[:, :, None, None]
        padding = weight.shape[-1] // 2
        if self.folded:
            return F.conv2d(x, weight, getattr(self, _of(name, "shift")), stride, padding, groups=groups)
        raw = _filtered(x, weight, stride, groups)
        given = self.normed(raw, name)
        if self.looked_at is not None:
            self.looked_at[name] = Seen(x, stride, raw, given)
        return given

    def seen(self, x: Tensor, name: str) -> Seen:
        """What the convolution called `name` does when the part is run on x."""
        found: dict[str, Seen] = {}
        self.looked_at = found
        try:
            self(x)
        finally:
            self.looked_at = None
        return found[name]

    def fold(self) -> None:
        """Lets every weight with a norm behind it take over that norm, in place and for good."""
        for norm in self.named_norms:
            if norm in self.axes:
                scale, shift = self.affine(norm)
                weight = self.get_parameter(norm)
                weight.mul_(scale.view(-1, *(1,) * (weight.dim() - 1)))
                getattr(self, _of(norm, "shift")).copy_(shift)
        self.folded = True

    def affine(self, name: str, eps: float = EPSILON) -> tuple[Tensor, Tensor]:
        """What the norm does outside of training: a factor and a shift per channel."""
        mean, variance = (getattr(self, _of(name, s)).detach() for s in ("mean", "variance"))
        scale = getattr(self, _of(name, "gain")) / (variance + eps).sqrt()
        return scale, getattr(self, _of(name, "shift")) - mean * scale

    def statistic(self, name: str, what: str) -> nn.Parameter:
        """The "mean", the "variance", the "gain" or the "shift" of the norm called `name`."""
        parameter: nn.Parameter = getattr(self, _of(name, what))
        return parameter

    def restate(self, name: str, mean: Tensor, variance: Tensor) -> None:
        """Gives the norm called `name` other statistics; its gain and shift make up for them, so that it computes the same."""
        old = {what: self.statistic(name, what) for what in FIRST}
        scale = old["gain"] / (old["variance"] + self.eps).sqrt()
        shift = old["shift"] + (mean - old["mean"]) * scale
        new = {"gain": scale * (variance + self.eps).sqrt(), "shift": shift, "mean": mean, "variance": variance}
        for what, value in new.items():
            old[what].copy_(value)

    def _reset_norms(self) -> None:
        for name, value in self.neutral.items():
            nn.init.constant_(self.get_parameter(name), value)

    def _by_batch(self, y: Tensor, name: str, eps: float) -> Tensor:
        gain, shift = getattr(self, _of(name, "gain")), getattr(self, _of(name, "shift"))
        # Not F.batch_norm, which refuses a batch of a single value; that one becomes the shift.
        return torch.batch_norm(y, gain, shift, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)

    def _watch(self, name: str, y: Tensor) -> None:
        if self.watched is not None:
            variance, mean = torch.var_mean(y.detach(), dim=[i for i in range(y.dim()) if i != 1], correction=0)
            none = torch.zeros_like(mean)
            m, s, v, n = self.watched.get(name, Moments(none, none, none, 0))
            self.watched[name] = Moments(m + mean, s + mean.square(), v + variance, n + 1)


def _filtered(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """The convolution of a training step, with sides kept up to `stride`.

    On CPUs the gradients of depthwise filters in bf16 take, with strides or more than 3x3 places, 2 to 18 times as long as in
    float32 (torch 2.13 with oneDNN); 3x3 filters without strides are faster in bf16.
    """
    padding = weight.shape[-1] // 2
    slow = groups > 1 and (stride > 1 or weight.shape[-1] > 3)
    if not slow or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, None, stride, padding, groups=groups)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(x.float(), weight, None, stride, padding, groups=groups).to(torch.get_autocast_dtype("cpu"))


def _of(norm: str, what: str) -> str:
    """The name of a parameter of a norm: `up_gain`; of the one norm of a part that has no name, `gain`."""
    return f"{norm}_{what}" if norm else what
