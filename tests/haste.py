"""What is shorter in tests than it is for users: timings, searches among predictions, and waiting for the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

Attributes = Mapping[tuple[object, str], object]  # of modules and classes, with their values


def timing() -> Attributes:
    """Latencies are read in the fewest batches, however wide their intervals are, for no test asks how long something takes.

    Memory is read in one process.
    """
    from wb.export.timing import clock, footprint, measure

    def wide(timing: measure.Timing, _: float) -> list[str]:
        return [name for name in timing.names if len(timing.pairs.get(name, ())) < measure.FEWEST]

    one_round = 0.001
    return {
        (measure, "BATCH_S"): one_round,
        (measure.Timing, "wide"): wide,
        (clock, "SAMPLE_S"): 0.0004,
        (footprint, "PROCESSES"): 1,
    }


def searching() -> Attributes:
    """Samplers search their predictions for a few rounds, predictors have few trees, and probes are short."""
    from wb.predictors import ensemble
    from wb.search.planning import costs
    from wb.search.sampler import cross_entropy, inner

    return {
        (inner, "GENERATIONS"): 3,
        (cross_entropy, "ROUNDS"): 3,
        (ensemble, "TREES"): 10,
        (costs, "PROBED"): 0.01,
    }


def writing() -> Attributes:
    """What is written is not waited for: it outlives the process that wrote it, which is all that tests can kill."""
    if not event.contains(Engine, "connect", _unsynced):
        event.listen(Engine, "connect", _unsynced)
    return {(os, "fsync"): lambda _: None}


def _unsynced(connection: Any, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def changed(attributes: Attributes) -> Iterator[Attributes]:
    """Within it they have these values; gives what they had before."""
    before = {(owner, name): getattr(owner, name) for owner, name in attributes}
    with pytest.MonkeyPatch.context() as patch:
        for (owner, name), value in attributes.items():
            patch.setattr(owner, name, value)
        yield before
