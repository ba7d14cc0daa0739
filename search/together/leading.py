"""A search that torchrun started as several processes: the first one searches, the others help to train its supernet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wb.core.errors import BadOption
from wb.core.system.provenance import versions
from wb.scale.joining import board, joined, started
from wb.search.run import Run, RunRecord

FOLDER = "folder"  # the word under which the first process leaves its run folder, for when it is started again
END = "end"


def give(run: Run, record: RunRecord) -> None:
    """Says to the other processes what is trained."""
    content = {"folder": str(run.folder), "record": record.model_dump(mode="json"), "versions": versions()}
    board().leave(_order(), json.dumps(content))


def follow(sequence: int) -> None:
    """What the other processes do: they wait for what there is to train, and train it together.

    Raises:
        WbError: data or versions are not those of the first process, or that has ended.
    """
    from wb.search.together.stage import read_training

    told = board().awaited(_order())
    if told == END:
        return
    order = json.loads(told)
    if (own := versions()) != order["versions"]:
        raise BadOption(
            f"this process has {_text(own)}, and the first one {_text(order['versions'])}; install the same"
        )
    training = read_training(Run(Path(order["folder"])), RunRecord.model_validate(order["record"]))
    with joined(sequence) as team:
        training(team=team)


@contextmanager
def led() -> Iterator[None]:
    """Around what the first process does: at its end the others end too, whether there was something to train or not."""
    try:
        yield
    finally:
        if started() and board().found(_order()) is None:
            board().leave(_order(), END)


def remember(folder: Path) -> None:
    """Leaves word of the run folder, for when torchrun starts the command again."""
    board().leave(FOLDER, str(folder.absolute()))


def restarted() -> Path | None:
    """The run folder of the command's earlier try, None if this is the first, or if that began no run."""
    found = board().found(FOLDER) if board().tries else None
    return Path(found) if found is not None and Run(Path(found)).record_path.exists() else None


def _order() -> str:
    return f"order-{board().tries}"


def _text(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
