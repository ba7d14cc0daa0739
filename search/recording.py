"""`wb device record`: timing blocks of networks on a device, and writing them as a table that others predict with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.space import random_choices
from wb.data import load as load_data
from wb.export.devices.predict import record
from wb.export.timing.blocks import parts, time_parts
from wb.export.timing.table import LatencyTable
from wb.foreign.reading import read_header
from wb.hardware.device import parse_device
from wb.jobs.kinds import need
from wb.search.page.contents import read_trials
from wb.search.run import Run
from wb.search.study.trials import choices_of
from wb.search.trained.start import space_of


def record_table(
    device: str,
    out: Path,
    models: Sequence[Path],
    run: Path | None,
    networks: int,
    threads: int,
    progress: Progress,
    *,
    force: bool,
) -> int:
    """Times the blocks of models and of the space of a run on a device, and writes them to `out`; how many they are.

    Blocks that were timed there before are not timed again, so that an interruption loses little.

    Raises:
        BadOption: nothing to time, or a device that is a table itself, or `out` exists and `force` is false.
        WbError: as `parse_device`, `time_parts` and `record`.
    """
    if out.exists() and not force:
        raise BadOption(f"{out} exists; choose another file, or say --force")
    wanted = [read_header(path)[0] for path in models] + ([] if run is None else list(_of_run(run, networks)))
    if not wanted:
        raise BadOption("no blocks to time; give model files, or a run of wb search with --run")
    if any(one.causal for one in wanted):
        raise BadOption(
            "networks that continue texts have a cache, and no block of theirs is timed alone; leave them out"
        )
    table = LatencyTable(parse_device(device, threads))
    table.check()
    distinct = {part.key: part for one in dict.fromkeys(wanted) for part in parts(one)}
    time_parts([*distinct.values()], table, lambda done, of: progress("timing blocks", done, of))
    return record(table, wanted, out, force=force)


def _of_run(folder: Path, networks: int) -> Iterator[Architecture]:
    """The smallest and the largest network of a run's space, its candidates, and so many random ones."""
    need(folder, "run", expected="a run folder of `wb search`")
    run = Run(folder)
    record = run.read()
    config = record.config
    space = space_of(config, load_data(config.data, image_size=config.image_size, limit=config.limit))
    yield from (space.smallest(), space.largest())
    yield from (space.decode(choices_of(space, trial)) for trial in read_trials(run, record))
    rng = random.Random(config.seed)
    yield from (space.decode(random_choices(space, rng)) for _ in range(networks))
