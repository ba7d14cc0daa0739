"""The results of the functions of `wb.api`; they show as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from wb.jobs.calls.shown import Shown, Table, readings_table

if TYPE_CHECKING:
    from wb.data import Dataset
    from wb.data.summary import Summary
    from wb.jobs.verbs.classifier import Classifier
    from wb.models.model import Model as Weights

R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class Model(Shown):
    """A model file: architecture, weights by name, history."""

    path: Path
    model: Weights

    def table(self) -> Table:
        """The last readings in the history, and the steps of the history."""
        steps = [step.name for step in self.model.history]
        read = next((step.readings for step in reversed(self.model.history) if step.readings), {})
        return readings_table(str(self.path), read, [f"history: {', '.join(steps) or 'none'}"])


@dataclass(frozen=True, repr=False)
class Result(Shown, Generic[R]):
    """The result of a job: its record and its files; `path` is the main file."""

    record: R
    path: Path
    files: tuple[Path, ...]
    rows: Callable[[R], Table]

    @cached_property
    def model(self) -> Model:
        """The model file. Raises `BadArtefact` if there is none (static quantization, foreign graphs)."""
        found = [path for path in (self.path, *self.files) if path.suffix in (".safetensors", ".pt")]
        return read_model(found[0] if found else self.path.with_suffix(".safetensors"))

    @cached_property
    def graph(self) -> Classifier:
        """The result's ONNX graph as a classifier of pictures."""
        from wb.jobs.verbs.classifier import Classifier

        return Classifier(self.path.with_suffix(".onnx"))

    def table(self) -> Table:
        """The readings before and after, and the paths of the files."""
        table = self.rows(self.record)
        return table._replace(title=str(self.path), lines=(*table.lines, *(f"wrote {path}" for path in self.files)))


@dataclass(frozen=True, repr=False)
class Data(Shown):
    """Images with their classes, divided into training, validation and test."""

    dataset: Dataset

    def table(self) -> Table:
        """The number and size of images in each split, and the classes."""
        one = self.dataset
        splits = (("train", one.train), ("validation", one.validation), ("test", one.test))
        shape = ", ".join(spec.text for spec in one.specs())
        rows = [(name, str(len(split)), shape) for name, split in splits]
        return Table(one.spec, ("split", "images", "size"), rows, [f"classes: {', '.join(one.classes)}"])

    @cached_property
    def summary(self) -> Summary:
        """What was understood: classes, pixels, copies within and across splits, and what was left out, as `wb data` tells it."""
        from wb.data.summary import summarize

        return summarize(self.dataset)

    def page(self, path: str | Path, *, force: bool = False) -> Path:
        """Writes the page of `wb data -o` (.html), or a picture of samples (.png), and returns its path.

        Raises:
            BadOption: another ending, or the file exists and `force` is false.
            StorageFailed: it could not be written.
        """
        from wb.jobs.summary.page import write

        write(self.summary, self.dataset, Path(path), force=force)
        return Path(path)


def read_model(path: Path) -> Model:
    """The model in the file at `path`. Raises `BadArtefact` if there is none."""
    from wb.foreign.reading import load
    from wb.jobs.kinds import need_model

    need_model(path)
    return Model(path, load(path))
