"""The record of a job, as JSON: its course, and everything that its page shows."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, JsonValue, ValidationError

from wb import __version__
from wb.core.architecture import explain
from wb.core.errors import BadArtefact
from wb.core.measures.metrics import ACCURACY, METRICS, QUALITIES, Metric
from wb.core.records import Frozen
from wb.core.system.files import read_text, write_text
from wb.core.system.provenance import machine, now, versions

C = TypeVar("C", bound=BaseModel)


def _of_quality(name: str) -> str:
    if name not in QUALITIES:
        raise ValueError(f"{name!r} is no metric of quality; there are {', '.join(QUALITIES)}")
    return name


# The name of a metric of quality. Accuracy is left out of the JSON: it is what records without the field are of.
Quality = Annotated[str, AfterValidator(_of_quality), Field(exclude_if=lambda name: name == ACCURACY.name)]


class JobRecord(Frozen, Generic[C]):
    """The record of one job. Subclasses add its readings.

    `kind` is the name of the job in messages ("pruning"). `quality` names the metric of the networks' task; readings have
    its value on the validation split under that name. `seconds` are wall times by activity, `recipes` say how networks are
    trained in each.
    """

    kind: str
    created: str
    version: str
    config: C
    quality: Quality = ACCURACY.name
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    seconds: Mapping[str, FiniteFloat] = Field(default_factory=dict)
    recipes: Annotated[Mapping[str, str], Field(exclude_if=lambda recipes: not recipes)] = Field(default_factory=dict)

    verb: ClassVar[str]  # the `wb` command that writes such records
    indent: ClassVar[int | None] = 1  # of the JSON
    difference: ClassVar[str] = "other settings, another model or other data"  # how two jobs differ, in messages

    @property
    def metric(self) -> Metric:
        """That of the networks' task."""
        return METRICS[self.quality]

    @property
    @abstractmethod
    def worked_on(self) -> Mapping[str, JsonValue]:
        """Fingerprints of model and data. Two jobs are the same if these and `config` are."""

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether enough is done to be worth continuing."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is a result."""

    @classmethod
    def called(cls) -> str:
        """The name of this kind of job."""
        return str(cls.model_fields["kind"].default)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record at `path`.

        Raises:
            BadArtefact: there is none, or it is damaged.
        """
        text = read_text(path, f"the JSON that `wb {cls.verb}` wrote")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadArtefact(
                f"{path} is damaged or no record of a {cls.called()} ({explain(error)}); {cls.verb} again"
            ) from error

    def write(self, path: Path, *, force: bool = True) -> None:
        """Writes atomically. Raises `BadOption` if the file exists and `force` is false, `StorageFailed` for a full disk."""
        write_text(path, self.model_dump_json(indent=self.indent) + "\n", force=force)


def origin(device: str) -> dict[str, Any]:
    """Time, version, machine and library versions of a new record; `device` describes the device."""
    return {"created": now(), "version": __version__, "machine": machine(device), "versions": versions()}


R = TypeVar("R", bound=JobRecord[Any])


class Recorder(Generic[R]):
    """Keeps a record in a file; every `note` is written at once."""

    def __init__(self, record: R, path: Path) -> None:
        self.record = record
        self._path = path

    def note(self, **changes: object) -> None:
        """Changes fields of the record, and writes it."""
        self.record = self.record.model_copy(update=changes)
        self.record.write(self._path)

    def took(self, seconds: Mapping[str, float]) -> None:
        """Adds wall times to the record; they are written with the next `note`."""
        total = {**self.record.seconds}
        for what, more in seconds.items():
            total[what] = round(total.get(what, 0.0) + more, 2)
        self.record = self.record.model_copy(update={"seconds": total})

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the wall time of the block to the record, as `took` does."""
        start = time.perf_counter()
        yield
        self.took({what: time.perf_counter() - start})
