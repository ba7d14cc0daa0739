"""A network computed by processes in a line: each has a part of it, takes batches from the one before, and hands them on.

Source: Du et al., "EnergonAI: An Inference System for 10-100 Billion Parameter Transformer Models", 2022,
https://arxiv.org/abs/2209.02341: stages in a line, shares of each, no padding, a pool of weights.
Differs: there is no engine that gives orders. All processes know from the beginning which batches there are and how long their
texts, and so do the same without asking.
Limits: of networks that continue texts only what the tokens cost comes back, not all scores. Batches are as long as their longest
text in attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.models.network import Network, build
from wb.models.staged.part import Batch, Part, packable
from wb.models.staged.pool import Pool
from wb.models.staged.shares import share
from wb.models.staged.spans import Span, spans
from wb.models.staged.stored import Stored
from wb.scale.joining import board
from wb.scale.line.handing import Receiving, Sending
from wb.scale.line.loss import Lost, naming
from wb.scale.line.places import Places
from wb.scale.line.sums import Sums
from wb.scale.team import ProcessLost, Team

Progress = Callable[[str, int, int], None]
Judge = Callable[[NDArray[Any], NDArray[np.integer]], NDArray[Any]]
"""From scores (b, tokens, vocabulary) and the tokens that follow (b, tokens) to a number for each text, (b,)."""


class Inputs(Protocol):
    """What a network is to be run on; the first process has it."""

    @property
    def lengths(self) -> Sequence[int] | None:
        """The tokens of each text, which are its first; None for images."""

    @property
    def following(self) -> NDArray[np.integer] | None:
        """The token behind each token of texts, (n, tokens of the longest), negative where none is; None for classes."""

    def __len__(self) -> int:
        """How many examples there are."""

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        """Those examples as a network takes them; ids are as many as the longest text has tokens, and -1 at padding."""


class Ran(NamedTuple):
    """What a process has computed: the outputs (n, classes) of the first one, in the order of the inputs, else None.

    Of networks that continue texts they are what each text was judged to be, (n, 1).
    `sent` is how many bytes it sent, `held` how many bytes of weights it had at a time, both counted.
    """

    outputs: NDArray[Any] | None
    sent: int
    held: int


@dataclass(frozen=True)
class Line:
    """How a network is computed: by which processes, `batch` examples at a time, the weights of each within `resident` bytes.

    `summed` gives a stage's sums, from those that torch's processes have; `judged` judges texts by the scores of a network that
    continues them.
    """

    places: Places
    batch: int = 8
    resident: int | None = None
    dtype: torch.dtype = torch.float32
    packs: bool = True
    summed: Callable[[Sums], Sums] = lambda sums: sums
    judged: Judge | None = None

    def check(self, stored: Stored) -> list[Span]:
        """The blocks of each stage. Raises `BadOption` or `Unsupported` where the network cannot be divided so."""
        self.places.check()
        share(stored.architecture, 0, self.places.shares)
        return spans(stored.architecture, self.places.stages)

    def __call__(self, team: Team, stored: Stored, inputs: Inputs | None, progress: Progress) -> Ran:
        """Runs this process's part; the first one is given the inputs, others None.

        Raises:
            BadArtefact: the file is damaged or was replaced.
            BadOption, Unsupported: the network cannot be divided so, or there is no room for its weights.
            ProcessLost: another process has ended.
        """
        with naming(team.rank, board(), self.places.called):
            part = self.part(team, stored)
            try:
                told = self._told(team, inputs, follows=stored.architecture.head.foresees)
                return _Run(self, team, part, told, inputs).whole(progress)
            finally:
                part.pool.close()

    def part(self, team: Team, stored: Stored) -> Part:
        """This process's part of the network. Raises as a call, and `Lost`."""
        span = self.check(stored)[self.places.stage(team.rank)]
        own = share(stored.architecture, self.places.share(team.rank), self.places.shares)
        network: Network = build(own.architecture, "meta").eval()
        pool = Pool(network, span, stored, own, self.resident, self.dtype)
        sums = self.summed(self.places.sums(team))
        return Part(network, span, pool, sums, self.packs and packable(network))

    def _told(self, team: Team, inputs: Inputs | None, *, follows: bool) -> _Told:
        """The examples of each batch, texts of about one length together, which all processes learn from the first."""

        def lengths() -> NDArray[np.integer]:
            assert inputs is not None
            return np.full(len(inputs), -1) if inputs.lengths is None else np.asarray(inputs.lengths)

        def following() -> NDArray[np.integer]:
            assert inputs is not None
            assert inputs.following is not None
            return inputs.following

        known = _shared(team, lengths)
        behind = _shared(team, following).reshape(len(known), -1) if follows else None
        order = np.argsort(known, kind="stable")
        found: list[tuple[NDArray[np.integer], Batch]] = []
        for begin in range(0, len(order), self.batch):
            index = order[begin : begin + self.batch]
            tokens = tuple(known[index].tolist())
            found.append((index, Batch(len(index), None if tokens[0] < 0 else tokens)))
        return _Told(found, behind)


class _Told(NamedTuple):
    """What all processes know beforehand: the examples of each batch; and where tokens are foreseen, those that follow each."""

    batches: Sequence[tuple[NDArray[np.integer], Batch]]
    following: NDArray[np.integer] | None


def _shared(team: Team, make: Callable[[], NDArray[np.integer]]) -> NDArray[np.integer]:
    """The numbers that the first process makes, in all of them."""
    try:
        return np.frombuffer(team.shared(lambda: make().astype(np.int32).tobytes()), np.int32)
    except ProcessLost as error:
        raise Lost([0], error) from error


class _Run:
    """One process's run over all batches."""

    def __init__(
        self,
        line: Line,
        team: Team,
        part: Part,
        told: _Told,
        inputs: Inputs | None,
    ) -> None:
        self._line, self._part, self._inputs = line, part, inputs
        self._batches, self._following = told
        places, rank = line.places, team.rank
        before, behind = places.before(rank), places.behind(rank)
        self._leads, self._answers = team.leads, rank == places.answering
        shapes = (part.expected(batch) for _, batch in self._batches)
        self._coming = None if before is None else Receiving(before, shapes, line.dtype)
        self._next = None if behind is None else Sending(behind)
        self._back = Sending(0) if self._answers and not team.leads else None
        self._found: list[Tensor] = []
        width = part.network.architecture.head.classes if self._following is None else 1
        self._answered = None
        if team.leads and not self._answers:  # all at once: whoever answers is never to wait for the first process
            sizes = [(batch.size, width) for _, batch in self._batches]
            self._answered = Receiving(places.answering, sizes, line.dtype, len(sizes))

    def whole(self, progress: Progress) -> Ran:
        for number, (index, batch) in enumerate(self._batches):
            progress("running", number, len(self._batches))
            state = self._part.run(self._given(index, batch))
            if self._next is not None:
                self._next.send(self._part.handed(state))
            elif self._answers:
                self._answer(self._judged(self._part.outputs(state), index))
        progress("running", len(self._batches), len(self._batches))
        for sending in (self._next, self._back):
            if sending is not None:
                sending.finish()
        if self._answered is not None:
            self._found = [self._answered.taken() for _ in self._batches]
        sent = sum(one.sent for one in (self._next, self._back, self._part.sums) if one is not None)
        return Ran(self._outputs() if self._leads else None, sent, self._part.pool.held)

    def _given(self, index: NDArray[np.integer], batch: Batch) -> Any:
        if self._coming is not None:
            return self._part.taken(self._coming.taken(), batch)
        shape, pixels = self._shape(batch)
        inputs = torch.empty(shape, dtype=self._line.dtype if pixels else torch.int64)
        if self._inputs is not None:
            inputs.copy_(torch.from_numpy(self._inputs.take(index)))
        return self._part.begun(self._part.sums.shared(inputs), batch)

    def _shape(self, batch: Batch) -> tuple[tuple[int, ...], bool]:
        """The shape of a batch of inputs, and whether they are pixels."""
        if batch.mask is not None:
            return tuple(batch.mask.shape), False
        example = self._part.network.architecture.input.specs()[0].example
        return (batch.size, *map(int, example)), True

    def _judged(self, outputs: Tensor, index: NDArray[np.integer]) -> Tensor:
        """What is sent back of a batch: its class scores, or of texts that are continued what each was judged to be."""
        if self._following is None:
            return outputs
        assert self._line.judged is not None
        following = self._following[index, : outputs.shape[1]]
        return torch.from_numpy(self._line.judged(outputs.numpy(), following)).to(self._line.dtype)[:, None]

    def _answer(self, outputs: Tensor) -> None:
        if self._back is None:
            self._found.append(outputs)
        else:
            self._back.send(outputs)

    def _outputs(self) -> NDArray[Any]:
        """Those of all batches, in the order of the inputs."""
        order = np.concatenate([index for index, _ in self._batches])
        together = torch.cat(self._found).numpy()
        found = np.empty_like(together)
        found[order] = together
        return found
