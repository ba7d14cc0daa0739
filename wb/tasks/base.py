"""The protocol of a task. Every task has a module beside this one; `wb.tasks.known.task_of` finds an architecture's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.data import Dataset

if TYPE_CHECKING:
    from torch import Tensor


class Grades(NamedTuple):
    """Grades of outputs, one per example."""

    each: NDArray[Any]  # (n,), or (n, ...) if a reading needs several numbers per example
    labels: NDArray[Any]  # (n, ...)


class Task(Protocol):
    """How the outputs of a network are learned (in torch) and judged (from files, in numpy)."""

    @property
    def name(self) -> str:
        """The name that the head of an architecture gives."""
        ...

    @property
    def metric(self) -> str:
        """The name of its quality metric in `wb.core.measures.metrics.METRICS`."""
        ...

    # ------------------------------------------------------------------------------------------------------------ torch

    def loss(
        self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """The training loss of a batch, ()."""
        ...

    def distillation(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """The distillation loss of a batch, (): its gradient moves outputs towards those of a teacher."""
        ...

    def together(self, outputs: Sequence[Tensor]) -> Tensor:
        """The outputs of an ensemble, from those of its networks."""
        ...

    def effects(self, outputs: Tensor, changed: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Measures of how a change of the network changes its outputs, one value per example (B,)."""
        ...

    # ------------------------------------------------------------------------------------------------------------ numpy

    def votes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The votes of one network's outputs (n, ...); an ensemble's outputs are the sum of its networks' votes."""
        ...

    def divergence(self, outputs: NDArray[Any], changed: NDArray[Any]) -> NDArray[Any]:
        """The distance of `changed` outputs from `outputs`, both (n, ...): one number per example, (n,)."""
        ...

    def check_outputs(self, outputs: NDArray[Any], labels: NDArray[Any], what: str) -> None:
        """Checks that outputs can be judged by `labels`; `what` names their graph or model in messages.

        Raises:
            BadArtefact: the outputs have another shape, or are not finite.
            BadData: the labels do not fit them.
        """
        ...

    def grade(self, outputs: NDArray[Any], labels: NDArray[Any]) -> Grades:
        """The grade of each of the outputs (n, ...), which are not checked."""
        ...

    def reading(self, grades: Grades, device: str) -> Reading:
        """The reading of the task's metric."""
        ...

    def doubt(self, reading: Reading, outputs: NDArray[Any], labels: NDArray[Any], *, own: bool = False) -> str | None:
        """A warning if a reading is hardly better than guessing, with what to check; otherwise None.

        A network of our `own` prepares its images itself.
        """
        ...

    # ------------------------------------------------------------------------------------------------------------- data

    def check(self, architecture: Architecture, data: Dataset) -> None:
        """Raises `BadData` unless `data` have the labels of `architecture`, in its order."""
        ...
