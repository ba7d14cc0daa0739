"""Workers on a cluster of Ray (`wb search --ray ADDRESS`), which places them and starts them again.

Each is a task that gets the run's files from Ray's object store and then works as any other worker does: study, claims and
budget are in the storage, so that Ray only starts processes.

Source: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", 2018.
Limits: a node that is not like the machine of the run refuses to work, as its numbers would not go together with the others'.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any

from wb.core.errors import BadOption, MissingExtra, StorageFailed
from wb.search.beginning.config import SearchConfig
from wb.search.crew.joining import files_of, reason_of, tidied, unpacked
from wb.search.run import Run
from wb.search.study.storage import file_of

LOCAL = "local"  # the address of a cluster that is started here and ends with the search
RETRIES = 2  # times that Ray starts a worker anew whose process or node died
KNOCK_S = 5.0  # for a cluster to answer
WAIT_S = 5.0  # that workers get to end by themselves once enough candidates are evaluated


class OnRay:
    """Starts `count` workers on the cluster at `address`; they end with the block."""

    def __init__(self, address: str, config: SearchConfig, run: Run, count: int, say: Callable[[str], None]) -> None:
        """`config` names the storage as the workers are to reach it.

        Raises:
            MissingExtra: Ray is not installed.
            BadOption: the cluster has other machines, and the storage is a file of this one.
            StorageFailed: nothing answers at the address.
        """
        self._ray = _imported()
        self._address, self._config, self._run, self._say = address, config, run, say
        self._count = count
        self._tasks: list[Any] = []

    def __enter__(self) -> None:
        if not self._count:
            return
        ray, config = self._ray, self._config
        _connected(ray, self._address)
        try:
            _check_reach(ray, config, self._run)
            files = ray.put(files_of(self._run))
            work = ray.remote(num_cpus=config.threads, max_retries=RETRIES)(_work)
            study = self._run.read().study
            self._tasks = [work.remote(files, config.model_dump_json(), study) for _ in range(self._count)]
        except BaseException:
            ray.shutdown()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._tasks:
            return
        ray = self._ray
        try:
            ended, _ = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=WAIT_S if kind is None else 0)
            told = [self._told(task) for task in ended]
            for line in dict.fromkeys(line for line in told if line and kind is None):
                self._say(
                    f"{told.count(line)} of {self._count} workers on Ray ended early ({line}); the others did their part"
                )
        finally:
            ray.shutdown()  # which ends whatever still runs for this process

    def _told(self, task: Any) -> str:
        try:
            return str(self._ray.get(task))
        except Exception as error:  # Ray wraps whatever a task raised, and has errors of its own for lost nodes
            return reason_of(error).splitlines()[0]


def check_ray(address: str, config: SearchConfig, run: Run) -> None:
    """Raises as `OnRay` does, before the supernet is trained for it; a cluster of this machine alone is not started yet."""
    ray = _imported()
    if address != LOCAL:
        _connected(ray, address)
        try:
            _check_reach(ray, config, run)
        finally:
            ray.shutdown()


def _check_reach(ray: Any, config: SearchConfig, run: Run) -> None:
    names = {str(node["NodeManagerHostname"]) for node in ray.nodes() if node["Alive"]}
    others = sorted(names - {socket.gethostname()})
    file = file_of(run.storage(config))
    if others and file is not None:
        raise BadOption(
            f"the cluster has other machines ({', '.join(others[:3])}), and the study is the file {file} of this one; begin "
            "a run with --storage postgresql+psycopg2://…, which all of them reach"
        )


def _imported() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingExtra("--ray needs Ray, which is not installed; say pip install 'wb[ray]'") from error


def _connected(ray: Any, address: str) -> None:
    before, theirs = signal.getsignal(signal.SIGTERM), ray.is_initialized()
    try:
        _knock(address)
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:  # Ray raises a bare one where a cluster does not come up in time
        if not theirs:  # what somebody else began in this process goes on
            ray.shutdown()
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if address == LOCAL:
            raise StorageFailed(
                f"a cluster of Ray could not be started on this machine ({said}); try again when it is less busy, or leave --ray "
                "out: workers of this machine need no cluster"
            ) from error
        raise StorageFailed(
            f"no cluster of Ray answers at {address!r} ({said}); start one with `ray start --head` and "
            f"give --ray auto, or --ray {LOCAL} for one of this machine"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has its own, which would end a search without a word


def _knock(address: str) -> None:
    """Raises `OSError` if nothing listens at an address of the form `HOST:PORT`: Ray itself tries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _work(files: Mapping[str, bytes], config: str, study: str) -> str:
    """The work of one task, on its node; returns why it could not be done, or nothing."""
    from rich.console import Console
    from rich.progress import Progress

    from wb.search.pipeline import Search

    run = unpacked(study, files)
    progress = Progress(console=Console(quiet=True), disable=True)
    try:
        Search(SearchConfig.model_validate_json(config), run, progress).join()
        return ""
    except Exception as error:  # an error of a library may not be one that Ray can carry
        return reason_of(error)
    finally:
        with suppress(OSError):
            tidied(run)
