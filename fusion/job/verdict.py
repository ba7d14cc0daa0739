"""Verdict on a fusion in sentences: the fused model against each parent, their ensemble, and itself before fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wb.core.statistics.paired import Paired
from wb.core.statistics.verdict import Remark, undone
from wb.fusion.job.record import Fusion
from wb.fusion.job.tables import short


def remarks(record: Fusion) -> list[Remark]:
    """Remarks on the paired differences on the test images; none without a test.

    It is a warning if the model is certainly worse than a parent or than before its fine-tuning. Being worse than the ensemble is
    no warning, because the ensemble costs as much as all parents together.
    """
    names = short([parent.name for parent in record.parents])
    model = "fused model" if len(names) > 1 else "new model"
    if record.metric.direction == "minimize" and "test" in record.final:
        found = list(_by_intervals(record, model, names))
    else:
        found = _by_answers(record, model, names)
    if record.refit is not None and not record.refit.kept:
        found.append(Remark(f"The correction did not help: {record.refit.told('averaged')}."))
    if record.untuned:
        found.append(undone("Fine-tuning", *(one[record.quality] for one in (record.one_shot, record.tuned))))
    elif record.against_untuned is not None:
        found.append(_tuned(record.against_untuned))
    return found


def _by_answers(record: Fusion, model: str, names: Sequence[str]) -> list[Remark]:
    """Remarks on answers that are right or wrong, picture by picture."""
    found = [
        _against(model, name, parent.paired)
        for name, parent in zip(names, record.parents, strict=True)
        if parent.paired is not None
    ]
    if record.against_ensemble is not None:
        against = _against(model, "the ensemble of the parents", record.against_ensemble)
        found.append(against._replace(warn=False))
    return found


def _by_intervals(record: Fusion, model: str, names: Sequence[str]) -> Iterator[Remark]:
    """Remarks on a metric that counts no right answers: readings on the test split, whose intervals overlap or not."""
    own = record.final["test"]
    others = {name: parent.readings["test"] for name, parent in zip(names, record.parents, strict=True)}
    others |= {"the ensemble of the parents": record.ensemble["test"]} if record.ensemble else {}
    for name, other in others.items():
        both = f"{own.plain()} against {other.plain()} on test"
        if own.overlaps(other):
            yield Remark(f"The {model} is no better than {name}, as far as one can tell: {both}.")
        else:
            worse = record.metric.cost(own) > record.metric.cost(other)
            how = "worse" if worse else "better"
            yield Remark(f"The {model} is {how} than {name}: {both}.", warn=worse and name in names)


def _against(model: str, name: str, paired: Paired) -> Remark:
    if paired.sure and paired.points < 0:
        return Remark(f"The {model} is worse than {name}: {paired.text()}.", warn=True)
    if paired.sure:
        return Remark(f"The {model} is better than {name}: {paired.text()}.")
    return Remark(f"The {model} is no better than {name}, as far as one can tell: {paired.text()}.")


def _tuned(paired: Paired) -> Remark:
    if paired.sure and paired.points < 0:
        return Remark(f"It is worse after fine-tuning than before: {paired.text()}.", warn=True)
    if paired.sure:
        return Remark(f"It is better after fine-tuning than before: {paired.text()}.")
    return Remark(f"It is no better after fine-tuning than before, as far as one can tell: {paired.text()}.")
