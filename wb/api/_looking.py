"""Looking at a model: what it costs, what it says of pictures, and what it differs in from another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import data_of, path_of, saying, shown
from wb.jobs.calls.results import Data

if TYPE_CHECKING:
    from wb.data.preparation import Preparation
    from wb.jobs.calls.given import Given
    from wb.jobs.diff.compare import Compared
    from wb.jobs.generate.generating import Generated
    from wb.jobs.running.costs import Costs
    from wb.jobs.verbs.classifier import Picture
    from wb.jobs.verbs.measuring import Measured
    from wb.jobs.verbs.predicting import Predictions


def measure(
    file: Given,
    *,
    data: str | Data | None = None,
    background: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Measured:
    """As `wb measure`: options are the fields of `wb.jobs.verbs.measuring.Measuring`. Raises as that does."""
    from wb.jobs.frame.output import config_of
    from wb.jobs.verbs.measuring import Measuring

    options = by_field(Measuring, options)
    given = data_of(data, background, options)
    given = {name: given[name] for name in given if name != "limit" or name in options}  # of training images
    how = config_of(Measuring, "measure", given)
    with shown(quiet=quiet) as progress:
        return how(path_of(file) or Path(), progress, saying(quiet=quiet))


def predict(
    model: Given,
    pictures: Picture | Sequence[Picture],
    *,
    top: int = 3,
    background: str | None = None,
    images: Preparation | None = None,
    run_limit: float | None = None,
    truncate: bool = False,
    quiet: bool = False,
) -> Predictions:
    """As `wb predict`: the classes of pictures, with probabilities. A picture is a path, a PIL image or an array.

    `images` prepares pictures for a network that is not the workbench's; `truncate` is for texts that are too long. Raises as
    `wb.jobs.verbs.predicting.Predicting`.
    """
    from wb.jobs.verbs.classifier import apart
    from wb.jobs.verbs.predicting import Predicting

    with shown(quiet=quiet) as progress:
        return Predicting(top, background, images, run_limit, truncate)(
            path_of(model) or Path(), apart(pictures), progress
        )


def run(
    model: Given,
    pictures: Picture | Sequence[Picture] = (),
    *,
    data: str | Data | None = None,
    quiet: bool = False,
    **options: Any,
) -> Predictions | Costs:
    """As `wb run`: the classes of pictures or texts, or of the test split of data, by a network that processes share.

    Of a network that continues texts it is what they cost.

    Options are the fields of `wb.jobs.running.config.RunConfig`; several processes read pictures from files. Raises as
    `wb.jobs.running.running.Running`.
    """
    from wb.core.errors import BadOption
    from wb.jobs.frame.output import config_of
    from wb.jobs.running.running import Running
    from wb.jobs.verbs.classifier import apart
    from wb.scale.joining import rank

    if rank() > 0:
        raise BadOption(
            "torchrun started this process to follow another one; call api.run in one process, or start wb run by it"
        )
    spec = data.dataset.spec if isinstance(data, Data) else data
    how = config_of(Running, "run", {**options, "data": spec})
    with shown(quiet=quiet) as progress:
        found = how(path_of(model) or Path(), apart(pictures), progress, saying(quiet=quiet))
    assert found is not None
    return found


def generate(model: Given, prompt: str, *, quiet: bool = False, **options: Any) -> Generated:
    """As `wb generate`: options are the fields of `wb.jobs.generate.config.GenerateConfig`. Raises as that does."""
    from wb.jobs.frame.output import config_of
    from wb.jobs.generate.generating import Generating

    how = config_of(Generating, "generate", {"prompt": prompt, **options})
    with shown(quiet=quiet) as progress:
        return how(path_of(model) or Path(), progress, saying(quiet=quiet))


def diff(
    a: Given,
    b: Given,
    *,
    data: str | Data | None = None,
    background: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Compared:
    """As `wb diff`: options are the fields of `wb.jobs.diff.compare.Comparing`. Raises as that does."""
    from wb.jobs.diff.compare import Compared, Comparing
    from wb.jobs.frame.output import config_of

    given = data_of(data, background, by_field(Comparing, options))
    given = {name: given[name] for name in given if name != "limit" or name in options}  # of training images
    comparing = config_of(Comparing, "diff", given)
    with shown(quiet=quiet) as progress:
        return Compared(comparing(path_of(a) or Path(), path_of(b) or Path(), progress, saying(quiet=quiet)))
