"""Parts of a network in one process, one after the other, as processes have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.models.model import Model, save
from wb.models.network import build
from wb.models.staged.part import Batch, Part, Past, packable
from wb.models.staged.pool import Pool
from wb.models.staged.shares import share
from wb.models.staged.spans import spans
from wb.models.staged.stored import Stored
from wb.scale.line.sums import Sums

EXACT = 1e-12


def stored(model: Model, folder: Path) -> Stored:
    """The model in a file."""
    path = folder / f"{model.architecture.key}.safetensors"
    if not path.exists():
        save(model, path)
    return Stored.at(path)


def parts(given: Stored, stages: int, resident: int | None = None, *, packs: bool = True) -> list[Part]:
    """All stages, in float64."""
    own = share(given.architecture, 0, 1)
    found = []
    for span in spans(given.architecture, stages):
        network = build(given.architecture, "meta").eval()
        pool = Pool(network, span, given, own, resident, torch.float64)
        found.append(Part(network, span, pool, Sums(), packs and packable(network)))
    return found


def batch_of(architecture: Architecture, inputs: Tensor) -> Batch:
    """What is known of those inputs."""
    texts = architecture.input.usual_tokens is not None
    return Batch(len(inputs), tuple((inputs >= 0).sum(dim=1).tolist()) if texts else None)


def ran(found: Sequence[Part], inputs: Tensor) -> Tensor:
    """What they give one after the other; what is handed on has the shape that the next one expects."""
    batch = batch_of(found[0].network.architecture, inputs)
    state = found[0].run(found[0].begun(inputs, batch))
    for before, part in pairwise(found):
        given = before.handed(state)
        assert tuple(given.shape) == part.expected(batch)
        state = part.run(part.taken(given, batch))
    return found[-1].outputs(state)


def continued(found: Sequence[Part], ids: Tensor, sizes: Sequence[int]) -> Tensor:
    """What they give of a text (1, N), of which so many tokens come at a time."""
    pasts, before, outputs = [Past() for _ in found], 0, list[Tensor]()
    for size in sizes:
        state = found[0].run(found[0].begun_further(ids[:, before : before + size], before), pasts[0])
        for (front, part), past in zip(pairwise(found), pasts[1:], strict=True):
            given = front.handed(state)
            assert tuple(given.shape) == part.expected_further(size)
            state = part.run(part.taken_further(given, before), past)
        outputs.append(found[-1].outputs(state))
        assert torch.allclose(found[-1].latest(state), outputs[-1][:, -1:], rtol=0, atol=EXACT)
        before += size
    return torch.cat(outputs, dim=1)
