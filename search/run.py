"""The run folder: its files, and `run.json`, the record of how the run began and how far it is."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from wb import __version__
from wb.core.architecture import explain
from wb.core.errors import BadArtefact, BadOption, WbError
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.system.files import write_text
from wb.jobs.frame.record import JobRecord
from wb.search.beginning.config import SearchConfig
from wb.search.fidelity.yardstick import PASSAGES, TYPICAL, told
from wb.search.judgement.record import Judgement
from wb.search.planning.shares import TimePlan
from wb.search.results.point import FrontPoint
from wb.search.study.half_made import START, is_half_made
from wb.search.study.storage import file_url

if TYPE_CHECKING:
    from wb.search.results.answers import Answers

FORMAT = 1
CUT = ", with --truncate if it is on texts that earlier versions cut without a word"


class DataRecord(Frozen):
    """The data of a run; `image` are channels, height and width, and `examples` says what others are."""

    spec: str
    fingerprint: str
    train: int
    validation: int
    test: int
    image: Annotated[tuple[int, int, int] | None, Field(exclude_if=is_none)] = None
    examples: Annotated[str | None, Field(exclude_if=is_none)] = None
    classes: tuple[str, ...]

    @property
    def noun(self) -> str:
        """What the examples are called."""
        if self.image is not None:
            return "images"
        return PASSAGES if (self.examples or "").startswith(PASSAGES) else "texts"

    @property
    def shape(self) -> str:
        """What each example is: `1x8x8`, or in words."""
        return self.examples or "x".join(map(str, self.image or ()))


def _is_empty(found: Mapping[str, object]) -> bool:
    return not found


class RunRecord(JobRecord[SearchConfig]):
    """The record of a run, the content of `run.json`."""

    verb = "search"
    indent = 2

    kind: Literal["search"] = Field(default="search", exclude=True)  # not written: the file's fields tell its kind
    format: int = FORMAT
    version: str = __version__
    pace: Reading  # latency of the reference graph when the run began, which the run's latencies refer to
    devices: Annotated[Mapping[str, str], Field(exclude_if=_is_empty)] = {}  # of metrics by name, what they are
    paces: Annotated[Mapping[str, Reading], Field(exclude_if=_is_empty)] = {}  # and their reference graph's latencies
    study: str  # the study's name, unique in a shared storage
    data: DataRecord
    held_back: int = 0  # training images that rank candidates and train finalists only
    rungs: Mapping[int, Mapping[int, Reading]] = Field(default_factory=dict)  # epochs -> number of the trial -> quality
    plan: TimePlan | None = None  # of a search that was given a time
    finished: Mapping[str, int | str] | None = None  # the settings that front.json belongs to (`SearchConfig.wanted`)
    workers: int = 1  # largest number of simultaneous evaluations; latencies were measured one after the other
    predictors: Mapping[str, JsonValue] = Field(default_factory=dict)  # objective -> quality of the predictor
    judgement: Judgement | None = Field(default=None, exclude_if=lambda found: found is None)  # by the requirements
    table: Mapping[str, JsonValue] | None = None  # error of the per-block latency table against whole graphs

    @model_validator(mode="after")
    def _makes_sense(self) -> RunRecord:
        """Raises `ValueError` for fields that are used unchecked later: format, objectives, budgets, pace."""
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format}, this version of wb reads {FORMAT}")
        try:
            _ = self.config.read
        except WbError as error:
            raise ValueError(str(error)) from error
        if not 0 < self.pace.value < math.inf:
            raise ValueError(f"the reference graph cannot take {self.pace.value} ms")
        return self

    @property
    def part(self) -> float:
        """The share of the training images, but for those held back, that the supernet and the rungs see."""
        return 1.0 if self.plan is None else self.plan.part

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The data; a search has no input model."""
        return {"data": self.data.fingerprint}

    @property
    def begun(self) -> bool:
        """True: the record is written when the run begins."""
        return True

    @property
    def done(self) -> bool:
        """Whether the run has been finished once; it may be extended afterwards."""
        return self.finished is not None

    def judged(self, accuracy: float = TYPICAL) -> str:
        """How many images rank candidates and judge finalists, and what they can tell at such an accuracy, in words."""
        both = told(self.data.validation + self.held_back, accuracy, self.data.noun)
        if not self.held_back:
            return both
        return f"of candidates, {both}; of finalists, {told(self.data.validation, accuracy, self.data.noun)}"

    def check_data(self, spec: str, fingerprint: str, *, elsewhere: bool = False) -> None:
        """Raises `BadArtefact` if the data at `spec` have changed since the run began, perhaps `elsewhere`."""
        if fingerprint != self.data.fingerprint and elsewhere:
            raise BadArtefact(
                f"the data at {spec!r} are not those of the run, {self.data.spec!r} there (fingerprint {fingerprint}, there "
                f"{self.data.fingerprint}); bring the same files to this machine, and say with --data where they are"
            )
        if fingerprint != self.data.fingerprint:
            texts = self.data.image is None
            raise BadArtefact(
                f"the data at {spec!r} are no longer those of the run (fingerprint {fingerprint}, then {self.data.fingerprint}); "
                f"restore them, or start a new run{CUT if texts else ''}"
            )


@dataclass(frozen=True)
class Run:
    """An existing run folder; `reached` is the URL of its storage with the password, which the folder does not keep."""

    folder: Path
    reached: str | None = None

    @property
    def record_path(self) -> Path:
        """`run.json`."""
        return self.folder / "run.json"

    @property
    def supernet_path(self) -> Path:
        """The trained supernet."""
        return self.folder / "supernet.safetensors"

    @property
    def largest_path(self) -> Path:
        """The supernet's largest network as a model file, to be fused, pruned or exported."""
        return self.folder / "largest.safetensors"

    @property
    def start_path(self) -> Path:
        """The model whose weights the supernet starts from, if it does."""
        return self.folder / START

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint of supernet training, removed when it is done."""
        return self.folder / "supernet.checkpoint.pt"

    @property
    def front_path(self) -> Path:
        """`front.json`, the result."""
        return self.folder / "front.json"

    @property
    def report_path(self) -> Path:
        """`report.html`."""
        return self.folder / "report.html"

    @property
    def answers_path(self) -> Path:
        """`answers.json`: what the networks of the front answered on the test split."""
        return self.folder / "answers.json"

    @property
    def curves_path(self) -> Path:
        """`curves.json`: the losses of training."""
        return self.folder / "curves.json"

    @property
    def baselines_path(self) -> Path:
        """`baselines.json`: known networks that the figure shows beside the front."""
        return self.folder / "baselines.json"

    @property
    def beside(self) -> Path:
        """The folder of the known networks' models and graphs."""
        return self.folder / "baselines"

    @property
    def models(self) -> Path:
        """The folder of the front's models and graphs."""
        return self.folder / "models"

    @property
    def judged(self) -> Path:
        """The folder of the networks that were judged, where others, trained once more, are delivered in their place."""
        return self.folder / "judged"

    @property
    def staging(self) -> Path:
        """The folder in which finalists are made; publishing renames it to `models`."""
        return self.folder / "finalists"

    def storage(self, config: SearchConfig) -> str:
        """The URL of the study: `study.db` in the folder, unless the configuration names another storage."""
        return self.reached or config.storage or file_url(self.folder / "study.db")

    def read(self) -> RunRecord:
        """The content of `run.json`.

        Raises:
            BadArtefact: not a run folder, or the file is damaged.
        """
        if not self.record_path.is_file():
            raise BadArtefact(
                f"{self.folder} is no run folder: it has no run.json; expected the folder that `wb search` made"
            )
        try:
            return RunRecord.model_validate_json(self.record_path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise BadArtefact(
                f"{self.record_path} is damaged ({explain(error)}); restore it, or start a new run"
            ) from error
        except UnicodeDecodeError as error:
            raise BadArtefact(
                f"{self.record_path} is damaged (it is no text); restore it, or start a new run"
            ) from error

    def write(self, record: RunRecord) -> None:
        """Writes `run.json`, atomically."""
        record.write(self.record_path)

    def read_front(self) -> list[FrontPoint]:
        """The front, sorted by latency.

        Raises:
            BadArtefact: the search has no front yet, or the file is damaged.
        """
        if not self.front_path.is_file():
            raise BadArtefact(f"{self.folder} has no front.json yet; finish it with `wb search --resume {self.folder}`")
        try:
            return TypeAdapter(list[FrontPoint]).validate_json(self.front_path.read_bytes())
        except ValidationError as error:
            raise BadArtefact(
                f"{self.front_path} is damaged ({explain(error)}); delete it and say `wb search --resume {self.folder}`"
            ) from error

    def publish(self, points: list[FrontPoint], answers: Answers | None = None) -> None:
        """Makes the staged files the run's models, and writes `answers.json`, if there are any, and `front.json`.

        `front.json` is removed first and written last, so that it always describes the other files.
        """
        self.front_path.unlink(missing_ok=True)
        self.report_path.unlink(missing_ok=True)  # which would show another front
        if self.models.exists():
            shutil.rmtree(self.models)
        self.staging.rename(self.models)
        if answers is None:
            self.answers_path.unlink(missing_ok=True)
        else:
            write_text(self.answers_path, answers.model_dump_json() + "\n")
        content = [point.model_dump(mode="json") for point in points]
        write_text(self.front_path, json.dumps(content, indent=2) + "\n")


@contextmanager
def resumable(run: Run, how: str) -> Iterator[None]:
    """If the block ends early: removes the run's folder if it is empty, else the error's last note says `how` to continue."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            run.folder.rmdir()
        if run.record_path.exists():
            error.add_note(how)
        raise


def create(folder: Path | None) -> Run:
    """A new, empty run folder: `folder`, or `runs/<date>-<time>`.

    Files of a search that ended before its run began (`wb.search.study.half_made`) do not count as content.

    Raises:
        BadOption: the folder exists and is not empty.
    """
    if folder is None:
        return _dated()
    if folder.exists() and not (folder.is_dir() and is_half_made(folder)):
        raise BadOption(
            f"{folder} exists and is not empty; choose another --out, or continue it with --resume {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder)


def _dated() -> Run:
    stem = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    for i in itertools.count(1):  # two searches may begin in the same second
        folder = stem if i == 1 else stem.with_name(f"{stem.name}-{i}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return Run(folder)
