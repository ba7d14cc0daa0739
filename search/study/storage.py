"""The storage of a study: its URL, opening the database for writing or reading, and errors of damaged databases."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial
from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from wb.core.errors import BadArtefact, BadOption, StorageFailed, WbError, reason
from wb.core.system.files import scratch

HEARTBEAT_S = 30  # a killed worker on another machine is noticed after three missed heartbeats
ENVIRONMENT = "env:"  # in front of the name of a variable that has the URL
SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)  # in the name of what a URL's query says
DAMAGE = ("malformed", "not a database", "no such table", "no such column", "could not decode", "has no column")


def file_url(file: Path) -> str:
    """The URL of the SQLite database in `file`; any characters in the path are escaped."""
    return _text(URL.create("sqlite", database=os.path.abspath(file)))


def public(url: str) -> str:
    """`url` for messages: without its password, or just the path of an SQLite file."""
    parsed = _parsed(url)
    if parsed is None:
        return re.sub(r":[^:@/]*@", ":***@", url)
    return str(_file(parsed) or _unlocked(parsed).render_as_string(hide_password=True))


def without_password(url: str) -> str:
    """`url` without its password, as it may be stored: drivers then look for one where they usually do, as in PGPASSWORD."""
    parsed = _parsed(url)
    return public(url) if parsed is None else _text(_unlocked(parsed)._replace(password=None))


def _unlocked(url: URL) -> URL:
    """`url` without the secrets of its query."""
    return url.difference_update_query([name for name in url.query if SECRET.search(name)])


def absolute(url: str) -> str:
    """`url` with an absolute path, so that it means the same in any working folder; `env:NAME` is that of the environment.

    Raises:
        BadOption: a database in memory, which would vanish with the process, or nothing of that name in the environment.
    """
    if url.startswith(ENVIRONMENT):
        return absolute(_of_environment(url.removeprefix(ENVIRONMENT)))
    parsed = _parsed(url)
    if parsed is None or parsed.get_backend_name() != "sqlite" or "uri" in parsed.query:
        return url  # an invalid URL is refused when it is opened
    if parsed.database in (None, "", ":memory:"):
        raise BadOption(f"--storage {url} keeps nothing; give a file, for example sqlite:///study.db")
    return _text(parsed.set(database=os.path.abspath(os.path.expanduser(parsed.database or ""))))


def _of_environment(name: str) -> str:
    """The URL in the variable `name`: words of a command, with their passwords, are seen by all users of a machine (`ps`)."""
    if name and not name.isidentifier():
        raise BadOption(
            f"--storage {ENVIRONMENT}… has to be followed by the name of a variable, and is by something else, which is "
            "not repeated here; say for example export STORAGE=URL, then --storage env:STORAGE"
        )
    url = os.environ.get(name, "")
    if not url or url.startswith(ENVIRONMENT):
        said = "names another variable" if url else "is not set"
        raise BadOption(
            f"--storage {ENVIRONMENT}{name}: the variable {name or 'without a name'} {said}; say for example export "
            f"{name or 'NAME'}=postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"
        )
    return url


def open_storage(url: str, *, create: bool = False) -> RDBStorage:
    """Opens the database for writing; creates tables only with `create`.

    SQLite transactions take the write lock when they begin (`BEGIN IMMEDIATE`). So the rows that Optuna reads cannot change
    before it writes, and several processes may share the file.

    Source: SQLAlchemy, "SQLite: serializable isolation, savepoints, transactional DDL".
    """
    _quiet()
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    storage = _Storage(
        _text(parsed),
        # Servers allow some hundred connections: a worker has one, and one for its heartbeats, and sees whether they still live.
        engine_kwargs={"connect_args": {"timeout": 60}}
        if sqlite
        else {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT_S,
        grace_period=3 * HEARTBEAT_S,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        skip_table_creation=not create,
    )
    if sqlite:

        @event.listens_for(storage.engine, "connect")
        def _fast(connection: Any, _: object) -> None:
            connection.isolation_level = None
            # Five times fewer waits for the disk. A killed process loses nothing, a power cut at most the last trial.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        @event.listens_for(storage.engine, "begin")
        def _at_once(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        storage.engine.dispose()  # closes the connections opened before the listeners existed
    return storage


class _Storage(RDBStorage):
    """Optuna's storage, except that a failed heartbeat is ignored: it runs in a thread whose errors nobody could catch."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
            super().record_heartbeat(trial_id)


def check_answers(url: str) -> None:
    """Connects once to a database that is no file, before anything that takes time. Raises as `named` does."""
    if file_of(url) is None:
        with named(url):
            engine = create_engine(make_url(url))
            try:
                engine.connect().close()
            finally:
                engine.dispose()


def stale_trials(study: optuna.Study) -> set[int]:
    """The ids of running trials without a heartbeat for the grace period: their workers are dead."""
    storage = study._storage
    return set(storage._get_stale_trial_ids(study._study_id)) if isinstance(storage, BaseHeartbeat) else set()


def beat(study: optuna.Study, trial: FrozenTrial) -> None:
    """Records a heartbeat of the trial now."""
    if isinstance(study._storage, BaseHeartbeat):
        study._storage.record_heartbeat(trial._trial_id)


@contextmanager
def open_to_read(url: str) -> Iterator[RDBStorage]:
    """Opens the database without ever writing to it, so that it may be on a full disk or in a read-only folder."""
    _quiet()
    parsed = make_url(url)
    file = _file(parsed)
    with ExitStack() as stack:
        readable = parsed if file is None else _readable(file, stack)
        storage = RDBStorage(_text(readable), skip_table_creation=True)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def named(url: str) -> Iterator[None]:
    """Turns whatever Optuna raises within the block into one error that names the database.

    Raises:
        BadArtefact: the database is damaged, or the file is not a database.
        BadOption: the kind of database is unknown, or its driver is not installed.
        StorageFailed: the database cannot be reached, read or written.
    """
    try:
        yield
    except WbError:
        raise
    except (ArgumentError, ImportError) as error:
        raise BadOption(
            f"the storage {public(url)} cannot be used ({reason(error)}); give an Optuna URL, for example sqlite:///study.db, or "
            "postgresql+psycopg2://… with `pip install 'wb[postgres]'`"
        ) from error
    except Exception as error:  # depending on the damage: KeyError, ValueError, LookupError, …
        raise _unusable(url, error) from error


def settle(url: str) -> None:
    """Moves SQLite's write-ahead log into the database file, so that the file can be copied alone."""
    file = file_of(url)
    if file is not None and file.is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for other databases and invalid URLs."""
    parsed = _parsed(url)
    return None if parsed is None else _file(parsed)


def _unusable(url: str, error: Exception) -> WbError:
    causes = [each for each in (error, error.__cause__) if each is not None]
    said = reason(next((each for each in causes if isinstance(each, SQLAlchemyError)), error))
    unreachable = any(isinstance(each, OperationalError | OSError) for each in causes)
    newer = type(error) is RuntimeError  # Optuna raises it for a schema of another version
    if any(word in said.lower() for word in DAMAGE) or not (unreachable or newer):
        return BadArtefact(f"the study at {public(url)} is damaged ({said}); restore it from a copy or start a new run")
    if newer:
        return StorageFailed(
            f"the storage {public(url)} has tables of another version of Optuna ({said.partition('. ')[0]}); give another "
            "database, or once nobody works on it say: optuna storage upgrade --storage URL"
        )
    parsed = _parsed(url)
    secret = parsed is not None and parsed.username and parsed.password is None
    hint = f"; {_unsaid(parsed)}" if secret and parsed is not None else ""
    return StorageFailed(
        f"the storage {public(url)} cannot be used ({said}); check the URL and that it is reachable{hint}"
    )


def _unsaid(url: URL) -> str:
    """What to do where a password may be missing: runs keep none."""
    if url.get_backend_name() == "postgresql":
        return (
            "runs keep no passwords: if the database wants one, say export PGPASSWORD=…, or add a line to ~/.pgpass, and give "
            "the command again"
        )
    return f"runs keep no passwords: if the database wants one, give it in --storage {ENVIRONMENT}NAME, a variable with the URL"


def _readable(file: Path, stack: ExitStack) -> URL:
    """A URL that opens the SQLite file without writing beside it.

    A file with a write-ahead log needs shared memory beside it; in a read-only folder, both are copied to a temporary one.
    """
    log = file.with_name(file.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return _uri(file, immutable="1")
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fsencode(file))}?mode=ro", uri=True, timeout=60)) as db:
            db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:  # the folder is read-only: SQLite cannot create the shared memory of readers
        folder = stack.enter_context(scratch())
        for part in (file, log):
            shutil.copyfile(part, folder / part.name)
        return URL.create("sqlite", database=str(folder / file.name))
    except sqlite3.DatabaseError:
        pass  # damaged; the error comes when it is read
    return _uri(file, mode="ro")


def _uri(file: Path, **query: str) -> URL:
    return URL.create("sqlite", database=f"file:{quote(os.fsencode(file))}", query={**query, "uri": "true"})


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


def _file(url: URL) -> Path | None:
    plain = url.get_backend_name() == "sqlite" and url.database and "uri" not in url.query
    return Path(url.database or "") if plain else None


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats and metric names have been "experimental" in Optuna for years; the user cannot do anything about it.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
