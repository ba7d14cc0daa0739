"""The progress of a run in one sentence, read from its folder, which another process may be working on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from wb.core.errors import BudgetMissed
from wb.search.crew.crew import Crew
from wb.search.fidelity.forecast import chosen, rung_counts
from wb.search.run import Run, RunRecord


def standing(run: Run, record: RunRecord, trials: Sequence[FrozenTrial]) -> str:
    """What the run still lacks, and which processes work on it or how to continue it; empty if the run is finished."""
    config = record.config
    if run.front_path.exists() and record.finished == config.wanted:
        return ""
    crew = Crew(run.folder)
    others = len(crew.others())
    if others:
        who = f"{others} process{'es evaluate' if others > 1 else ' evaluates'} candidates"
    else:
        way = f"continue with: wb search --resume {shlex.quote(str(run.folder))}"  # at the end, for pasting
        who = "a process is at it" if crew.busy() else way
    stale = ""
    if run.front_path.exists() and record.finished:
        stale = f" (the front is that of {record.finished.get('trials')} candidates)"
    return f"{_missing(run, record, trials)}{stale}; {who}"


def _missing(run: Run, record: RunRecord, trials: Sequence[FrozenTrial]) -> str:
    config = record.config
    lacks = f"No front of {config.trials} candidates yet" if run.front_path.exists() else "No front yet"
    if not run.supernet_path.exists():
        begun = "is not trained to its end" if run.checkpoint_path.exists() else "is not trained"
        return f"{lacks}: the supernet {begun}; next are {config.trials} candidates"
    if len(trials) < config.trials and not run.staging.exists():
        return f"{lacks}: {len(trials)} of {config.trials} candidates are evaluated; next are the others, then the finalists"
    trained, wanted = rung_counts(config, len(trials), record.rungs)
    if trained < wanted and not run.staging.exists():
        told = f"All {len(trials)} candidates are evaluated, and {trained} of about {wanted} trainings alone are done"
        return f"{told}; next: the others, then the finalists"
    try:
        finalists = chosen(config, trials, record.rungs)
    except BudgetMissed as error:
        return str(error)
    ready = sum((run.staging / f"{number}.onnx").exists() for number in finalists)
    made = "fine-tuned and exported" if config.finetune else "exported"
    told = f"All {len(trials)} candidates are evaluated, and {ready} of {len(finalists)} finalists are {made}"
    others = "" if ready == len(finalists) else "the others; "
    once_more = ", those of the front are trained once more" if config.retrains else ""
    return f"{told}; next: {others}all are timed together{once_more} and read on the test split, which gives the front"
