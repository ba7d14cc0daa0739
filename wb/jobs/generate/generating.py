"""`wb generate`: the continuation of a text, one token at a time, each drawn from what the network foresees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.system.files import scratch, write_text
from wb.data.texts.vocabulary import Vocabulary
from wb.export.decoder import Continuing
from wb.export.foreign.opening import read_metadata
from wb.export.foreign.trial import LIMIT_S, try_out
from wb.export.graph import TOKENIZER_KEY, export, read_architecture
from wb.export.refusal import exportable
from wb.foreign.reading import load
from wb.hardware.device import Device
from wb.jobs.calls.shown import Shown, Table
from wb.jobs.generate.config import GenerateConfig
from wb.jobs.inputs import Say, about
from wb.jobs.kinds import GRAPH, MODELS, need
from wb.jobs.running.processes import PATIENCE, lost, stored_at
from wb.models.decoding import Steps
from wb.models.files.history import tokenizer_of
from wb.models.staged.further import Further
from wb.models.staged.line import Line
from wb.models.staged.stored import Stored
from wb.scale.joining import joined, started
from wb.scale.launch import pieces
from wb.scale.team import ALONE, Team

WORKER = "wb.jobs.generate.worker"
Run = Continuing | Steps | Further
_CUT = "\ufffd"  # what a decoder gives for a character whose bytes are not all there
_BYTES = 8  # tokens that are waited for at most: a character has four bytes


@dataclass(frozen=True, repr=False)
class Generated(Shown):
    """What the network in `file` said behind `prompt`, in so many tokens."""

    file: Path
    prompt: str
    text: str
    tokens: int

    def table(self) -> Table:
        """The text."""
        return Table(str(self.file), ("prompt", "text"), [(self.prompt, self.text)], [f"{self.tokens} tokens"])

    def content(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"model": str(self.file), "prompt": self.prompt, "text": self.text, "tokens": self.tokens}


class Generating(GenerateConfig):
    """How a text is continued. Where a text becomes longer than the network reads, its last half is read anew."""

    def __call__(self, file: Path, progress: Progress, say: Say) -> Generated:
        """The whole text. Raises as `pieces`."""
        text = "".join(self.pieces(file, progress, say))
        return Generated(file, self.prompt, text, self.tokens)

    def pieces(self, file: Path, progress: Progress, say: Say) -> Iterator[str]:
        """The text behind the prompt, as it comes; `say` is told how much of the prompt is not read.

        Raises:
            BadArtefact: the file is no model and no graph, or has no tokenizer.
            BadOption: the prompt is empty, too long, or has characters that the model does not know; or the network cannot be
                divided among so many processes, or is a graph.
            ProcessLost: one of several processes has ended.
            StorageFailed: there is no room for temporary files.
            Unsupported: the model does not foresee tokens, or a sub-layer cannot be divided.
        """
        kind = need(file, *MODELS, "onnx", expected=GRAPH)
        architecture, _ = about(file)
        if architecture is None or not architecture.causal or architecture.head.task != "next":
            raise Unsupported(
                f"{file} does not foresee the next token, so that it continues no text; `wb train --data lm:FILE` makes one that "
                "does, and `wb predict` names the classes of pictures and texts"
            )
        if self.shares or started():
            yield from self._shared(file, kind, progress, say)
            return
        if kind != "onnx" and not exportable(architecture):
            model = load(file)
            vocabulary = vocabulary_of(file, tokenizer_of(model.history), model.architecture)
            yield from self._continued(Steps(model.network()), vocabulary, progress, say)
            return
        with scratch() as folder:
            graph = file
            if kind != "onnx":
                progress("exporting", 0, 0)
                graph = folder / "model.onnx"
                export(load(file), graph)
            else:
                progress("trying it out", 0, 0)
                try_out(file, Device(), limit_s=LIMIT_S)
            vocabulary = vocabulary_of(graph, read_metadata(graph).get(TOKENIZER_KEY), read_architecture(graph))
            yield from self._continued(Continuing(graph, Device()), vocabulary, progress, say)

    def _shared(self, file: Path, kind: str, progress: Progress, say: Say) -> Iterator[str]:
        """The same by processes that each have a part of the network, or by one that has not all weights at a time."""
        if kind == "onnx":
            raise BadOption(
                f"{file} is a graph, which is run whole; give the model that it is of, or leave --pipeline, --tensor and "
                "--resident out"
            )
        with stored_at(file, say) as stored:
            vocabulary = vocabulary_of(file, tokenizer_of(stored.history), stored.architecture)
            line = self.line
            line.check(stored)
            self._check(len(_written(self.prompt, vocabulary)), vocabulary.length, lambda _: None)
            if started():
                with joined(patience=PATIENCE) as team:
                    self.places.check_count(team.count)
                    yield from self.by(team, line, stored, vocabulary, progress, say)
            elif self.places.count == 1:
                torch.set_num_threads(1)
                yield from self.by(ALONE, line, stored, vocabulary, progress, say)
            else:
                with scratch() as folder:
                    how = folder / "how.json"  # a prompt may be longer than a word of a command
                    write_text(how, self.model_dump_json(exclude_unset=True))
                    given, told = [str(how), str(stored.path)], partial(lost, places=self.places)
                    yield from pieces(self.places.count, WORKER, given, progress, say, tries=0, lost=told)

    @property
    def line(self) -> Line:
        """The processes."""
        return Line(self.places, resident=self.resident)

    def by(
        self, team: Team, line: Line, stored: Stored, vocabulary: Vocabulary, progress: Progress, say: Say
    ) -> Iterator[str]:
        """The text of the first process, as it comes; nothing of the others, which compute their parts meanwhile."""
        with Further(line, team, stored) as run:
            if team.leads:
                yield from self._continued(run, vocabulary, progress, say)
            else:
                run.follow()

    def _continued(self, run: Run, vocabulary: Vocabulary, progress: Progress, say: Say) -> Iterator[str]:
        progress("generating", 0, self.tokens)
        ids = _written(self.prompt, vocabulary)
        self._check(len(ids), vocabulary.length, say)
        random = np.random.default_rng(self.seed)
        given = _read(run, ids, vocabulary.length)
        told = _Told(vocabulary, len(ids))
        for number in range(self.tokens):
            ids.append(self._drawn(given[0, -1], random))
            yield told.more(ids, last=number == self.tokens - 1)
            progress("generating", number + 1, self.tokens)
            if number < self.tokens - 1 and run.before < vocabulary.length:
                given = run(np.array([ids[-1:]], np.int64))
            elif number < self.tokens - 1:
                given = _read(run, ids, max(1, vocabulary.length // 2))

    def _check(self, count: int, length: int, say: Say) -> None:
        """Raises `BadOption` for a prompt of more tokens than the network reads, unless it is truncated: then `say` is told."""
        if count <= length:
            return
        if not self.truncate:
            raise BadOption(
                f"--prompt has {count:,} tokens, and the network reads {length:,}; give --truncate to continue its end alone, or "
                "a shorter prompt"
            )
        say(f"the prompt has {count:,} tokens, of which the network reads the last {length:,}: the rest is cut")

    def _drawn(self, scores: NDArray[np.float32], random: np.random.Generator) -> int:
        """A token, by its scores (vocabulary,)."""
        order = np.argsort(-scores, kind="stable")[: self.top_k]
        if not self.temperature:
            return int(order[0])
        exact = scores[order].astype(np.float64)
        chances = np.exp((exact - exact[0]) / self.temperature)
        return int(random.choice(order, p=chances / chances.sum()))


class _Told:
    """What was said of ids up to some place: only the last are read again, so that a token takes the same time everywhere."""

    def __init__(self, vocabulary: Vocabulary, start: int) -> None:
        self._read, self._from, self._to = vocabulary.read, max(0, start - 1), start

    def more(self, ids: list[int], *, last: bool) -> str:
        """The text that the latest ids add; nothing where a character is cut, unless they are the `last`.

        They are read behind those of the piece before, as some vocabularies write a first piece of a text otherwise.
        """
        before, now = self._read(ids[self._from : self._to]), self._read(ids[self._from :])
        if now.endswith(_CUT) and not last and len(ids) - self._to < _BYTES:
            return ""
        self._from, self._to = self._to, len(ids)
        return now[len(before) :]


def vocabulary_of(file: Path, tokenizer: str | None, architecture: Architecture | None) -> Vocabulary:
    """How the network of a file reads texts."""
    if tokenizer is None or architecture is None:
        raise BadArtefact(
            f"{file} has no tokenizer, so that its tokens are no text; a model that was trained on lm:FILE or imported with its "
            "tokenizer.json has one, and so have graphs of it: give such a file"
        )
    length = architecture.layout.tokens
    return Vocabulary(tokenizer, length, length)


def _written(prompt: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of a prompt."""
    ids: list[int] = [*vocabulary.front, *vocabulary.whole(prompt).tolist()]
    if not ids:
        raise BadOption(f"--prompt {prompt!r} has no token; give a text to continue")
    strange = vocabulary.strange(prompt)
    if strange is not None:
        raise BadOption(f"--prompt has {strange} that the model has never seen; leave that out")
    return ids


def _read(run: Run, ids: list[int], most: int) -> NDArray[np.float32]:
    """The scores of a run that has read the last tokens, and no others."""
    run.begin(1)
    return run(np.array([ids[-most:]], np.int64))
