"""What is delivered of a front: its networks trained once more, on the examples of training and validation together.

The front, and all that was read on the validation split, are of the networks that were chosen, which never saw these examples.
Whoever trains once more has the same start, recipe, seed and teacher as before, and costs as much.

Source: `GridSearchCV(refit=True)` of scikit-learn.
Limits: nothing is left to judge what is delivered by but the test split, which chooses nothing; its losses are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wb.core.commands.progress import Progress
from wb.core.errors import Unsupported
from wb.core.measures.metrics import Limit
from wb.core.measures.readings import Reading
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.graph import ExportDiffers
from wb.models.model import Model
from wb.search.ending.tuner import Tuner, Wanted, Who, all_of
from wb.search.ending.twins import Made, remade
from wb.search.run import Run
from wb.training.fit import TrainingDiverged


class Delivered(NamedTuple):
    """A network of the front as it is delivered, and its readings: of what was judged, but for the size of its own file."""

    made: Made
    readings: Mapping[str, Reading]


def judged_apart(readings: Mapping[str, Reading], metric: str, noun: str) -> dict[str, Reading]:
    """The readings of a network that is trained once more, with a note at that on the validation split; `noun` has examples."""
    own = readings[metric]
    note = f"read before it was trained once more, on the validation {noun} too"
    return {**readings, metric: own.model_copy(update={"note": "; ".join(filter(None, (note, own.note)))})}


@dataclass(frozen=True)
class Retraining:
    """Trains networks of the front once more; `write` writes graphs. Networks are judged by `metric`, and keep the `limits`."""

    run: Run
    tuner: Tuner
    data: Dataset
    metric: str
    limits: Sequence[Limit]
    seed: int
    write: Callable[[Model, Path], None]
    progress: Progress
    say: Callable[[str], None]

    def __call__(
        self,
        made: Mapping[int, Made],
        readings: Mapping[int, Mapping[str, Reading]],
        front: Sequence[int],
        who: Mapping[int, Who],
    ) -> dict[int, Delivered]:
        """The networks of the `front` by their ids; `made` are all finalists and twins, and `who` taught the finalists."""
        wanted = {
            number: Wanted(made[number].architecture, who[number], whole=True)
            for number in dict.fromkeys(made[one].number for one in front)
        }
        models = self._trained({str(number): one for number, one in wanted.items()})
        found = {}
        for done, number in enumerate(front):
            self.progress("exporting what was trained once more", done, len(front))
            one, before = made[number], made[made[number].number].model
            model = models.get(str(one.number))
            if model is None:
                found[number] = Delivered(remade(one, before, self.data, self.seed, self.write), readings[number])
            else:
                found[number] = self._delivered(number, one, readings[number], model, before)
        return found

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where what was trained once more is made, and where it may be already."""
        return self.run.staging, self.run.models

    def _trained(self, wanted: Mapping[str, Wanted]) -> dict[str, Model]:
        """The networks that learn; one whose loss is no number any more is not among them."""

        def failed(name: str, error: TrainingDiverged) -> None:
            self.say(f"network {name} is delivered as it was judged; trained once more, {error}")

        return all_of(self.tuner, wanted, self.folders, "training the front once more", self.progress, failed)

    def _delivered(
        self, number: int, one: Made, readings: Mapping[str, Reading], model: Model, before: Model
    ) -> Delivered:
        """The network with the weights of `model`; with those `before`, where its graph is not what it has to be."""
        try:
            again = remade(one, model, self.data, self.seed, self.write)
            counted = count_model(again.architecture, again.path)
            why = self._exceeded(readings, counted)
        except (ExportDiffers, Unsupported) as error:
            why = str(error)
        if why is not None:
            self.say(f"network {number} is delivered as it was judged; trained once more, {why}")
            return Delivered(remade(one, before, self.data, self.seed, self.write), readings)
        size = {"size": counted["size"]}  # a longer history is in the file
        return Delivered(again, judged_apart({**readings, **size}, self.metric, self.data.train.noun))

    def _exceeded(self, before: Mapping[str, Reading], now: Mapping[str, Reading]) -> str | None:
        """A limit that was kept and is not any more, by some bytes."""
        for limit in self.limits:
            name = limit.metric.name
            if name in now and limit.excess(before[name]) <= 0 < limit.excess(now[name]):
                return f"it has {now[name].text()}, and {limit.text()} is asked for"
        return None

    def clear(self, kept: Collection[str]) -> None:
        """Removes what was judged but for those of these names, and what an interrupted run left."""
        for path in self.run.judged.iterdir():
            if path.suffix != ".safetensors" or path.stem not in kept:
                path.unlink()
