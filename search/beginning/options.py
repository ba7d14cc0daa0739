"""The options of a search as a configuration, for a new search or a resumed one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wb.core.commands.option import option_of, owner_of, structured, value_of
from wb.core.errors import BadOption
from wb.core.measures.requirements import EXAMPLE, check_limits
from wb.data.spec import LISTOPS, LM, Spec, resolved
from wb.hardware.remote.address import starts_commands
from wb.jobs.frame.output import config_of
from wb.jobs.kinds import need
from wb.search.beginning.config import OF_DECODERS, PASSES, SearchConfig
from wb.search.fidelity.rungs import AUTO
from wb.search.planning.settle import check_counts
from wb.search.run import Run
from wb.search.study import storage


def configured(given: Mapping[str, Any]) -> SearchConfig:
    """The options of a new search as a configuration.

    Raises:
        BadOption: a value that does not fit.
    """
    embedded = {"text": LISTOPS, "decoder": LM}.get(str(given.get("space")), "digits")
    if Spec.parse(str(given.get("data", embedded))).form == LM:
        given = {"objectives": OF_DECODERS, **PASSES, **given}
    given = {**given, "data": resolved(str(given.get("data", embedded)))}  # so that a run resumes from any folder
    if given.get("storage"):
        given = {**given, "storage": storage.absolute(given["storage"])}
    config = config_of(SearchConfig, "search", structured(SearchConfig, {"rungs": AUTO, **given}))
    _check_retrain(config, given)
    _ = config.metrics
    if len(config.seeds) > config.trials:
        raise BadOption(f"{len(config.seeds)} seed architectures need --trials {len(config.seeds)} or more")
    _ = config.limits
    _check_requirements(config)
    check_counts(config)
    return config


def _check_requirements(config: SearchConfig) -> None:
    check_limits(config.requirements, config.limits)
    if config.sampler == "generate" and not (config.requirements or config.limits):
        raise BadOption(f'--sampler generate needs what networks have to meet, for example --require "{EXAMPLE}"')
    if config.sampler != "generate" and not config.practice:
        raise BadOption(
            f"--no-practice is for --sampler generate; sampler {config.sampler!r} does not look at best practice"
        )


def _check_retrain(config: SearchConfig, given: Mapping[str, Any]) -> None:
    if given.get("retrain") and not config.finetune:
        raise BadOption(
            "--retrain trains networks as they were fine-tuned, and --finetune 0 fine-tunes none; give --finetune 1 or more, or "
            "leave --retrain out"
        )


def check_workers(workers: int, ray: str | None = None) -> None:
    """Raises `BadOption` if there is not one at least, or none for the cluster at `ray`."""
    if workers < 1:
        raise BadOption(f"wrong option: workers: {workers} is out of range; choose 1 or more")
    if ray is not None and workers == 1:
        raise BadOption("--ray has nothing to do with --workers 1, which is this process; say --workers 2 or more")


def resumed(folder: Path, given: Mapping[str, Any], out: Path | None) -> SearchConfig:
    """The configuration of a resumed run: its own settings with new values for those that may change.

    Raises:
        BadArtefact: `folder` is no run folder, or its record is damaged.
        BadOption: a setting that may not change, or a value that does not fit.
    """
    if folder.exists():
        need(folder, "run", expected="a run folder of `wb search`")
    config = Run(folder).read().config
    if "device" not in given and starts_commands(config.device):
        raise BadOption(
            f"this run measures on {config.device!r}, which starts a command, and a file is not to be trusted with that: if it "
            "is what you want, say it again with --device"
        )
    # The storage is given again because its password is not stored.
    allowed = {"trials", "finetune", "finalists", "baselines", "retrain", "storage"}
    wanted = configured({**config.model_dump(exclude={"retrain"}), **given})
    if "retrain" not in given:
        wanted = wanted.model_copy(update={"retrain": config.retrain})
    if wanted.sampler == "generate":
        allowed |= {"sampler", "require", "practice"}
    changed = sorted(name for name in given.keys() - allowed if value_of(wanted, name) != value_of(config, name))
    if changed or out is not None:
        names = ", ".join(option_of(owner_of(SearchConfig, name), name) for name in changed) or "--out"
        raise BadOption(
            f"{names} cannot change when a run is resumed; only --trials, --finetune, --finalists, --baselines, --retrain and "
            "--storage can, and with --sampler generate also --require. Start a new run instead"
        )
    _check_readings(config, wanted)
    return wanted


def _check_readings(config: SearchConfig, wanted: SearchConfig) -> None:
    """Raises `BadOption` if the evaluated candidates of the run were not read for what is required now."""
    if wanted.timed and not config.timed:
        raise BadOption(
            "this run did not time its candidates, so nothing is known of --require latency; start a new run with it"
        )
    new = [name for name in wanted.devices if name not in config.devices]
    if new:
        raise BadOption(
            f"this run did not time its candidates on {', '.join(new)}; start a new run for latency@{new[0]}"
        )
