"""What a task is. One file beside this one for each; `wb.tasks.known.task_of` gives that of an architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from wb.core.architecture import Architecture
from wb.core.readings import Reading
from wb.data import Dataset

if TYPE_CHECKING:
    from torch import Tensor


class Grades(NamedTuple):
    """How good outputs are, example by example."""

    each: NDArray[Any]  # (n,), or (n, ...) where a reading is made of several numbers an example
    labels: NDArray[Any]  # (n, ...)


class Task(Protocol):
    """How the outputs of a network are learned (in torch) and judged (from files, in numpy)."""

    @property
    def name(self) -> str:
        """As the head of an architecture says it."""
        ...

    @property
    def metric(self) -> str:
        """That of its quality, in `wb.core.metrics.METRICS`."""
        ...

    # ------------------------------------------------------------------------------------------------------------ torch

    def loss(
        self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """What training minimises, () over a batch."""
        ...

    def distillation(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """How far outputs are from those of a teacher, (): its gradient makes them alike."""
        ...

    def together(self, outputs: Sequence[Tensor]) -> Tensor:
        """The outputs of an ensemble, from those of its networks."""
        ...

    def effects(self, outputs: Tensor, changed: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """What a change of a network does to its outputs, example by example (B,)."""
        ...

    # ------------------------------------------------------------------------------------------------------------ numpy

    def votes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """What outputs (n, ...) count for in an ensemble, whose outputs are the sum over its networks."""
        ...

    def divergence(self, outputs: NDArray[Any], changed: NDArray[Any]) -> NDArray[Any]:
        """How far `changed` outputs are from `outputs`, both (n, ...): one number an example, (n,)."""
        ...

    def check_outputs(self, outputs: NDArray[Any], labels: NDArray[Any], what: str) -> None:
        """Nothing where outputs of the graph or model called `what` can be judged by `labels`.

        Raises:
            BadArtefact: they have another shape, or are not finite.
            BadData: the labels do not fit them.
        """
        ...

    def grade(self, outputs: NDArray[Any], labels: NDArray[Any]) -> Grades:
        """How good outputs (n, ...) are, example by example; they are not checked."""
        ...

    def reading(self, grades: Grades, device: str) -> Reading:
        """The task's metric."""
        ...

    def doubt(self, reading: Reading, outputs: NDArray[Any], labels: NDArray[Any]) -> str | None:
        """What is to be said of a reading that is hardly better than guessing; None of any other."""
        ...

    # ------------------------------------------------------------------------------------------------------------- data

    def check(self, architecture: Architecture, data: Dataset) -> None:
        """Raises `BadData` where `data` do not have the labels that `architecture` gives, in its order."""
        ...
