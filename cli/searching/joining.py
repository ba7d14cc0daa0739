"""`wb search --join`: this machine works on a run whose folder is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wb.cli.frame import output
from wb.core.errors import BadOption

MAY = ("storage", "data", "device")  # a path of the data, and the name of a device, may be others here
DONE = "{done} of {trials} candidates are evaluated; the run goes on where its folder is"


def join(which: str, given: Mapping[str, Any], workers: int, others: Mapping[str, bool], *, as_json: bool) -> None:
    """Evaluates candidates of a run that began elsewhere, in `workers` processes: `which` is its study, or its storage.

    A storage is enough where one run alone is under way in it.

    Raises:
        BadOption: other options, or no storage.
        OtherMachine: this machine is not like that of the run.
    """
    from wb.core.commands.option import option_of, owner_of
    from wb.data.spec import resolved
    from wb.hardware.remote.address import starts_commands
    from wb.search.beginning.config import SearchConfig
    from wb.search.crew.joining import check_there, config_here, fetched, tidied, under_way
    from wb.search.pipeline import Search
    from wb.search.study.storage import ENVIRONMENT, absolute, public

    by_url = "://" in which or which.startswith(ENVIRONMENT)
    wrong = [option_of(owner_of(SearchConfig, name), name) for name in given if name not in MAY]
    wrong += [option for option, is_given in others.items() if is_given]
    if wrong:
        raise BadOption(
            f"--join takes all settings from the run; leave out {', '.join(sorted(wrong))}, and give --storage, --data and "
            "--device where they are called otherwise here"
        )
    if by_url and given.get("storage"):
        raise BadOption(
            f"--join {which if which.startswith(ENVIRONMENT) else public(which)} names a storage, and --storage does too; give "
            "--join STUDY --storage URL, or --join URL alone"
        )
    if not by_url and not given.get("storage"):
        raise BadOption("--join needs the storage of the run, for example --storage postgresql+psycopg2://…")
    url = absolute(which if by_url else given["storage"])
    study = under_way(url) if by_url else which
    run = fetched(url, study)
    try:
        record = run.read()
        if "device" not in given and starts_commands(record.config.device):
            raise BadOption(
                f"the run measures on {record.config.device!r}, which starts a command; if it is what you want, say it again "
                "with --device"
            )
        here = {
            name: resolved(value) if name == "data" else value for name, value in given.items() if name != "storage"
        }
        config = config_here(record, url, here)
        check_there(config)
        with output.progress() as progress:
            done = Search(config, run, progress, workers).join()
    finally:
        tidied(run)
    if as_json:
        output.print_json({"study": study, "evaluated": done})
    else:
        output.data.print(DONE.format(done=done, trials=record.config.trials))
