"""A causal network token by token: it is given further tokens and what it kept of those before, and keeps more.

    past = started(network, batch)
    logits, past = decoder(ids, mask, *past)        # ids (B, N), mask (B, tokens before + N)

The mask is of all tokens so far; a token's place is the number of those before it that count, so that padding may stand on
either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wb.core.errors import Unsupported
from wb.core.specs import BATCH, PAST
from wb.models.layers.operator import Context
from wb.models.network import Network


class Recalled(NamedTuple):
    """One tensor that a network keeps of the tokens before: its name, and its shape with `batch` and `PAST` by name."""

    name: str
    shape: tuple[int | str, ...]

    def sized(self, batch: int, past: int) -> tuple[int, ...]:
        """The shape of `batch` texts behind so many tokens."""
        return sized(self.shape, batch, past)


def sized(shape: Sequence[int | str], batch: int, past: int) -> tuple[int, ...]:
    """A shape in which `batch` and `PAST` stand by name, of so many texts behind so many tokens."""
    sizes = {BATCH: batch, PAST: past}
    return tuple(sizes[one] if isinstance(one, str) else one for one in shape)


def recalled(network: Network) -> list[Recalled]:
    """What the network keeps, in order of execution: `0.key`, `0.value`, `1.key`, …

    Raises:
        Unsupported: it is not causal.
    """
    if not network.architecture.causal:
        raise Unsupported(
            "this continues texts, and the network looks ahead in them; give a decoder (wb train --data lm:FILE)"
        )
    keeping = [at.operator.recalls for at in network.walk() if at.operator.recalls]
    return [Recalled(f"{i}.{name}", (BATCH, *shape)) for i, kept in enumerate(keeping) for name, shape in kept.items()]


def started(network: Network, batch: int) -> list[Tensor]:
    """What it has kept before the first token: nothing, and sums of zero."""
    like = next(network.parameters())
    return [like.new_zeros(one.sized(batch, 0)) for one in recalled(network)]


class Decoder(nn.Module):
    """A causal network as a function of ids, mask and what was kept; gives logits (B, N, vocabulary), and what is kept now."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        recalled(network)  # refuses others
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """(B, N), (B, T), and tensors of the shapes in `recalled` -> (B, N, vocabulary), and the same for T tokens."""
        network = self.network
        context = _context(ids, mask)
        state = network.wiring(0).begin(network.tokens(ids, context.places), 0)._replace(context=context)
        left, kept = list(past), list[Tensor]()
        for at in network.walk():
            operator = at.operator
            own, left = left[: len(operator.recalls)], left[len(operator.recalls) :]
            given, now = operator.continued(at.read(state), own, context)
            state = at.add(state, at.joined(given, state))
            kept += now
        return network.end(state), *kept


def looking_back(tokens: int, before: int) -> Context:
    """What so many further tokens of one text may see, where `before` were given earlier and none is padding."""
    return _context(torch.zeros(1, tokens), torch.ones(1, before + tokens, dtype=torch.int64))


def _context(ids: Tensor, mask: Tensor) -> Context:
    """What further tokens may see, and where they stand."""
    counts = mask.bool()
    order = torch.arange(mask.shape[1], device=mask.device)
    before = mask.shape[1] - ids.shape[1]
    visible = counts[:, None, None, :] & (order[None, :] <= order[before:, None])
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, before:]
    return Context(counts[:, before:], visible, places=places)


def decoded(network: Network, ids: Tensor, past: Sequence[Tensor], before: int) -> tuple[Tensor, list[Tensor]]:
    """The logits of further tokens (B, N) of texts without padding, `before` of which were given earlier; and what is kept."""
    mask = torch.ones(len(ids), before + ids.shape[1], dtype=torch.int64, device=ids.device)
    logits, *kept = Decoder(network)(ids, mask, *past)
    return logits, kept


class Steps:
    """A causal network, with the past of the texts that it is given."""

    def __init__(self, network: Network, texts: int = 1) -> None:
        self.network = network
        self.begin(texts)

    def begin(self, texts: int) -> None:
        """Forgets what was given: so many texts are begun anew."""
        self.before, self._past = 0, started(self.network, texts)

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits (texts, tokens, vocabulary) of further tokens of each text."""
        with torch.inference_mode():
            logits, self._past = decoded(self.network, torch.from_numpy(ids), self._past, self.before)
        self.before += ids.shape[1]
        return np.asarray(logits.numpy(), np.float32)
