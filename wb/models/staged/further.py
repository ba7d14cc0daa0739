"""A text continued by processes in a line: each has a part of the network, and what that kept of the tokens before.

Source: as `wb.models.staged.line`.
Differs: the first process says how many tokens come next, as nobody can know it beforehand; one token is in the line at a time.
Limits: one text.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from wb.core.records import TextInput
from wb.models.staged.line import Line
from wb.models.staged.part import Past
from wb.models.staged.stored import Stored
from wb.scale.joining import board
from wb.scale.line.handing import Receiving, Sending
from wb.scale.line.loss import Lost, naming
from wb.scale.team import Team

_END = 0  # tokens


class Further:
    """One process's part of a network that continues a text; use it in a `with` block.

    The first process begins texts and gives further tokens as `wb.models.decoding.Steps`; the others `follow`.

    Raises:
        BadArtefact: the file is damaged or was replaced.
        BadOption, Unsupported: the network cannot be divided so, or there is no room for its weights.
        ProcessLost: another process has ended.
    """

    def __init__(self, line: Line, team: Team, stored: Stored) -> None:
        self._line, self._team, self.before = line, team, 0
        self._past: Past = {}
        with self._naming():
            self._part = line.part(team, stored)
        words = stored.architecture.input
        assert isinstance(words, TextInput)  # what foresees tokens reads texts
        self._vocabulary = words.vocabulary

    def __enter__(self) -> Further:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._team.leads:
            self._ordered(_END)
        self._part.pool.close()

    def begin(self, texts: int) -> None:
        """Forgets what was given; `texts` is one."""
        assert texts == 1
        self.before = 0

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits (1, 1, vocabulary) of the last of further tokens (1, N)."""
        self._ordered(ids.shape[1])
        return self._step(torch.from_numpy(ids)).numpy()

    def follow(self) -> None:
        """Computes this process's part of whatever the first one gives, until it gives no more."""
        while (tokens := self._ordered()) != _END:
            self._step(torch.zeros(1, tokens, dtype=torch.int64))

    def _ordered(self, tokens: int = 0) -> int:
        """How many tokens come next; the past is forgotten where they begin a text. The first process says it to all."""
        order = torch.tensor([self.before, tokens])
        if not self._team.alone:
            with self._naming():
                try:
                    dist.broadcast(order, 0)
                except RuntimeError as error:
                    raise Lost([0] if not self._team.leads else range(1, self._team.count), error) from error
        self.before, tokens = order.tolist()
        if not self.before:
            self._past = {}
        return int(tokens)

    def _step(self, ids: Tensor) -> Tensor:
        places, rank, dtype = self._line.places, self._team.rank, self._line.dtype
        with self._naming():
            before, behind = places.before(rank), places.behind(rank)
            if before is None:
                state = self._part.begun_further(self._part.sums.shared(ids), self.before)
            else:
                shape = self._part.expected_further(ids.shape[1])
                state = self._part.taken_further(Receiving(before, [shape], dtype).taken(), self.before)
            state = self._part.run(state, self._past)
            self.before += ids.shape[1]
            if behind is not None:
                _sent(self._part.handed(state), behind)
            logits = self._part.latest(state) if behind is None else torch.empty(0)
            if rank == places.answering and not self._team.leads:
                _sent(logits, 0)
            elif self._team.leads and rank != places.answering:
                logits = Receiving(places.answering, [(1, 1, self._vocabulary)], dtype).taken()
            return logits

    def _naming(self) -> AbstractContextManager[None]:
        return naming(self._team.rank, board(), self._line.places.called)


def _sent(tensor: Tensor, peer: int) -> None:
    sending = Sending(peer)
    sending.send(tensor)
    sending.finish()
