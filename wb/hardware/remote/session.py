"""A graph on a device elsewhere that runs on examples of one's own, as a session here does.

What is lost with the channel is one block of runs, which is sent again to the runner that answers next; what came before is here.
"""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from wb.core.errors import BadArtefact
from wb.hardware.remote import examples
from wb.hardware.remote.address import checked
from wb.hardware.remote.link import Refused
from wb.hardware.remote.tenant import NOT_THE_GRAPH, Tenant, content_of, hash_of
from wb.hardware.runtimes.failures import said

if TYPE_CHECKING:
    from wb.hardware.device import Device

BLOCK_S = 1200.0  # of a block of runs at most; while it works it says so every two seconds
Feed = Mapping[str, NDArray[Any]]


class Remote(Tenant):
    """A graph, called `what` in messages, ready on `device` for runs.

    Raises:
        BadArtefact: it does not load there, or fails when it runs.
        BadOption, DeviceLost: as `Tenant`.
    """

    def __init__(self, graph: Path | bytes, what: str, device: Device) -> None:
        super().__init__(device)
        self._graph, self._what, self._about = content_of(graph), what, _Opened(inputs=[], outputs=[])
        self.persistently(lambda: None)

    def get_inputs(self) -> Sequence[Any]:
        """Name, type and shape of each, as attributes."""
        return self._about.inputs

    def get_outputs(self) -> Sequence[Any]:
        """The names of the outputs, as attributes."""
        return [SimpleNamespace(name=name) for name in self._about.outputs]

    def get_modelmeta(self) -> Any:
        """Nothing: whoever has the file reads it there."""
        return SimpleNamespace(custom_metadata_map={})

    def run(self, outputs: Sequence[str] | None, inputs: Feed) -> list[Any]:
        """The outputs of that name, or all, of one run."""
        (found,) = self.each(self._about.outputs if outputs is None else outputs, [inputs], 1)
        return found

    def each(self, outputs: Sequence[str], feeds: Iterable[Feed], together: int) -> Iterator[list[Any]]:
        """The outputs of that name of each run, of which so many are in a message."""
        left = iter(feeds)
        while block := list(islice(left, together)):
            buffer = io.BytesIO()
            named = {f"{n}/{name}": values for n, feed in enumerate(block) for name, values in feed.items()}
            np.savez(buffer, **named)  # type: ignore[arg-type]  # names, not options
            content = buffer.getvalue()
            try:
                yield from self.persistently(lambda c=content, b=block: self._ask(c, len(b), outputs))  # type: ignore[misc]
            except Refused as error:
                shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in block[0].items())
                raise BadArtefact(
                    f"{self._what} fails on {self.device.address} on its inputs {shapes}; export it again ({said(error)})"
                ) from error

    def load(self) -> None:
        """As `Tenant.load`."""
        self.learn(examples)
        self.send([self._graph])
        self._about = checked(_Opened, self.asked("open", "scored", self._graph, self._what), self.link)

    def _ask(self, block: bytes, count: int, outputs: Sequence[str]) -> list[list[Any]]:
        """The outputs of a block's runs. Raises `DeviceLost` for what cannot be those."""
        asked: dict[str, Any] = {"sha": hash_of(block), "outputs": list(outputs)}
        try:
            answer = checked(_Given, self.link.ask("outputs", seconds=BLOCK_S, **asked), self.link)
            if answer.missing:
                answer = checked(_Given, self.link.ask("outputs", block, BLOCK_S, **asked), self.link)
        except Refused as error:
            if error.kind in NOT_THE_GRAPH:
                raise self.link.nonsense(f"{self._what} could not be run on examples: {error}") from error
            raise
        content = _bytes(answer)
        while 0 < len(content) < answer.bytes:
            part = _bytes(checked(_Given, self.link.ask("rest", start=len(content)), self.link))
            if not part:
                break
            content += part
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                return [[stored[f"{number}/{name}"] for name in outputs] for number in range(count)]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise self.link.nonsense(f"what it gives for examples cannot be read: {error}") from error


def _bytes(answer: _Given) -> bytes:
    try:
        return base64.b64decode(answer.part, validate=True)
    except ValueError:
        return b""


class _Takes(BaseModel):
    name: str
    type: str
    shape: list[int | str | None]


class _Opened(BaseModel):
    inputs: list[_Takes]
    outputs: list[str]


class _Given(BaseModel):
    missing: bool = False
    bytes: Annotated[int, Field(ge=0, le=1 << 34)] = 0
    part: str = ""
