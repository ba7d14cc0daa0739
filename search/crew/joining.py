"""Workers without the run folder: on another machine, with the run's files from the storage or from an engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_dir

from wb import __version__
from wb.core.errors import BadArtefact, BadOption, WbError
from wb.core.system.files import replacing
from wb.core.system.provenance import versions
from wb.hardware.device import Device, unaddressed
from wb.hardware.remote.address import LOCAL
from wb.hardware.remote.profiles import read_profiles
from wb.hardware.runtimes.known import offered, runtime_with
from wb.search.beginning.config import SearchConfig
from wb.search.crew.crew import FOLDER, Crew, mark_joined
from wb.search.crew.shelf import Shelf
from wb.search.run import Run, RunRecord
from wb.search.study.storage import public

SAME = ("torch", "onnx", "onnxruntime")  # what exports, times and scores


class OtherMachine(BadOption):
    """This machine is not like the one on which the run began."""


def files_of(run: Run) -> dict[str, bytes]:
    """What a worker needs of the run's folder, by name."""
    paths = (run.record_path, run.supernet_path, run.start_path)
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def unpacked(study: str, files: Mapping[str, bytes]) -> Run:
    """A folder on this machine that stands in for the run's; all workers here that joined this study share it and its locks."""
    folder = Path(user_cache_dir("wb")) / "joined" / study
    folder.mkdir(parents=True, exist_ok=True)
    mark_joined(folder)
    run = Run(folder)
    wanted = {path.name for path in (run.record_path, run.supernet_path, run.start_path)}
    if not files.keys() <= wanted:
        raise BadArtefact(
            f"there are files beside the run that are none of it: {', '.join(sorted(files.keys() - wanted))}"
        )
    for name, content in files.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            with replacing(folder / name) as path:
                path.write_bytes(content)
    return run


def tidied(run: Run) -> None:
    """Deletes the folder of `unpacked`, unless other workers still use it."""
    crew = Crew(run.folder)
    crew.disband(whole=False)
    with suppress(OSError):
        if not crew.others() and not any((run.folder / FOLDER).glob("worker-*")):
            shutil.rmtree(run.folder)


def under_way(url: str) -> str:
    """The name of the one study at `url` that can be joined and whose candidates are evaluated or wait to be.

    Raises:
        BadOption: there is none, or there are several.
        StorageFailed: the storage does not answer.
    """
    found = Shelf.studies(url)
    if len(found) == 1:
        return next(iter(found))
    told = [
        f"{name}, {'not begun' if last is None else f'last at work {last:%d.%m. %H:%M}'}"
        for name, last in found.items()
    ]
    there = f"{public(url)} has " + (f"several runs under way ({'; '.join(told)})" if found else "no run under way")
    raise BadOption(
        f"{there}; say which with --join STUDY --storage URL, the command that a run prints once its supernet is trained"
    )


def fetched(url: str, study: str) -> Run:
    """The run of `study`, from its files in the storage at `url`.

    Raises:
        BadOption: the study has no files there (yet).
        BadArtefact: they are damaged.
        StorageFailed: the storage does not answer.
    """
    if not study or Path(study).name != study or study.startswith("."):
        raise BadOption(f"{study!r} is no name of a study; a search with --storage prints the command that joins it")
    files = Shelf(url, study).get()
    if not files:
        raise BadOption(
            f"{public(url)} has no files of a run called {study!r}; join a run once it has trained its supernet, by the command "
            "that it prints then"
        )
    return unpacked(study, files)


def check_same(record: RunRecord, device: Device, others: Iterable[Device] = ()) -> None:
    """Raises `OtherMachine` unless numbers from `device` and from these libraries go together with those of the run.

    Devices elsewhere, of `others` too, are timed on by one machine alone, as nobody sees that another one is at it.
    """
    away = [one.address for one in (device, *others) if one.address is not None]
    if away:
        raise OtherMachine(
            f"the run measures on {', '.join(away)}, where one machine at a time may do so; have --workers on that "
            "of the run"
        )
    found = versions()
    pairs = [(name, record.versions.get(name, "none"), found[name]) for name in SAME]
    pairs += [("wb", record.version, __version__)]
    pairs += [("device", unaddressed(record.machine["device"]), unaddressed(device.text))]
    differing = [f"{name}: {there} there, {here} here" for name, there, here in pairs if there != here]
    if differing:
        raise OtherMachine(
            f"this machine is not like that of the run ({'; '.join(differing)}), so that its numbers do not go together with "
            "those of the run; install the same versions, join from a machine of that kind, or name one with --device"
        )


def check_there(config: SearchConfig) -> None:
    """Raises `OtherMachine` if this machine has no devices of the names that the run measures on: before the data are read."""
    profiles = read_profiles()
    names = (config.device, *config.devices)
    own = [name for name in names if name not in profiles and ":" not in name and name.partition(",")[0] != LOCAL]
    lacking = [name for name in own if runtime_with(name) is None]
    if lacking:
        one = lacking[0]
        known = ", ".join(sorted({*offered(), *profiles}))
        use = "" if one != config.device else ", or name another of that kind with --device"
        raise OtherMachine(
            f"the run measures on {', '.join(lacking)}, of which this machine knows nothing (it has {known}); "
            f"say `wb device add {one} ADDRESS` or install its runtime{use}; devices that are reached over a network or a cable "
            "can be measured on by the run's own machine only"
        )


def config_here(record: RunRecord, url: str, given: Mapping[str, object]) -> SearchConfig:
    """The configuration of the run for a worker here: `given` are the fields that may differ, as its data are elsewhere."""
    return record.config.model_copy(update={"storage": url, **given})


def reason_of(error: BaseException) -> str:
    """Why a worker ended, in a line."""
    return str(error) if isinstance(error, WbError) else f"{type(error).__name__}: {error}"
