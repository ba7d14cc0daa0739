"""Settings that follow from others, before a run begins."""

from __future__ import annotations

from wb.core.errors import BadOption
from wb.core.system.durations import parse_duration
from wb.data import Dataset
from wb.data.dataset import check_memory
from wb.search.beginning.config import SearchConfig
from wb.search.fidelity.choice import expected
from wb.search.fidelity.rungs import AUTO, NONE, automatic, rungs_text

LASTS = 600.0  # seconds of a search, below which networks are not trained for long enough as it is
RETRAINED = 20_000  # texts, at most, whose front is trained once more if nothing else is said


def settled(config: SearchConfig) -> SearchConfig:
    """`config` with rungs that are written out; those of a search that was given a time stay to be planned."""
    if config.rungs != AUTO:
        return config
    if not any(metric.quality for metric in config.metrics):  # costs do not change with training
        return config.model_copy(update={"rungs": NONE})
    if config.time is not None:
        return config
    rungs = automatic(config.trials, finalists(config) or 1, config.finetune)
    return config.model_copy(update={"rungs": rungs_text(rungs)})


def finalists(config: SearchConfig) -> int | None:
    """The number of finalists: as given, or by a rule of thumb; None where they are the front, however large that is."""
    if config.finalists is not None or config.rungs == NONE:
        return config.finalists
    return expected(config.trials, len(config.metrics))


def retrained(config: SearchConfig, data: Dataset, hands: int) -> SearchConfig:
    """`config` with the front trained once more, where nothing else is said and that pays.

    It does for few texts, of which those of validation are worth half a point (docs/results.md, `recipe banking77`), in a given
    time of `LASTS` at least, where the largest network learns once more beside itself: so many `hands` train.
    """
    if config.retrain is not None or config.time is None or parse_duration(config.time) < LASTS or hands == 1:
        return config
    few = data.train.vocabulary is not None and data.task == "classes" and len(data.train) <= RETRAINED
    return config.model_copy(update={"retrain": True}) if few and config.finetune > 0 else config


def check_retrain(config: SearchConfig, data: Dataset) -> None:
    """Before there is work for the front to be trained once more on validation examples.

    Raises:
        BadData: images of both would not fit into memory.
        BadOption: these are no others.
    """
    if config.retrain and data.task != "classes":
        raise BadOption(
            "--retrain is for examples with labels; passages of training begin elsewhere in the text in every epoch, which those "
            "of validation cannot: leave it out"
        )
    if config.retrain and data.train.vocabulary is None:
        count = 2 * (len(data.train) + len(data.validation)) + len(data.test)
        check_memory(count, data.channels, data.height, data.width, f"{data.spec}, with --retrain")


def check_counts(config: SearchConfig) -> None:
    """Raises `BadOption` for more finalists than candidates that they could be."""
    if config.finalists is None:
        return
    if config.time is None and config.finalists > config.trials:
        raise BadOption(f"{config.finalists} finalists need --trials {config.finalists} or more")
    rungs = () if config.rungs == AUTO else config.halving
    if rungs and rungs[-1].candidates < config.finalists:
        raise BadOption(
            f"rung {rungs[-1]} leaves fewer candidates than {config.finalists} finalists; widen it in --rungs"
        )
