"""Where studies are kept: any path, any folder, and databases that can only be read."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import make_url

from wb.core.errors import BadArtefact, BadOption, StorageFailed
from wb.core.measures.metrics import METRICS
from wb.search.study.storage import absolute, check_answers, file_of, file_url, public, settle, without_password
from wb.search.study.study import create_study, load_study, read_evaluated

OBJECTIVES = (METRICS["acc"],)
NAMES = ["a?b", "a#b", "50%41", "a b", "é ü", "{x}", "a&b=c", "[red]", "x;y:z@h"]


def filled(folder: Path) -> tuple[Path, optuna.Study]:
    """A study with one evaluated trial, which is in the log of its database as long as the study is open."""
    file = folder / "study.db"
    study = create_study(file_url(file), "s", OBJECTIVES)
    reading = {"value": 0.5, "unit": "fraction", "how": "measured"}
    attributes = {"readings": {"acc": reading}, "violations": [], "seconds": {}}
    study.add_trial(optuna.trial.create_trial(values=[0.5], user_attrs=attributes))
    return file, study


@pytest.mark.parametrize("name", NAMES)
def test_a_url_means_its_file_whatever_the_characters(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "study.db"
    url = file_url(file)
    assert make_url(url).database == str(file)
    assert file_of(url) == file
    assert public(url) == str(file)


def test_a_study_is_where_it_was_put_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "".join(NAMES)
    folder.mkdir()
    file, study = filled(folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert len(read_evaluated(file_url(file), "s", OBJECTIVES, ())) == 1
    settle(file_url(file))
    assert not (folder / "study.db-wal").stat().st_size
    assert len(load_study(file_url(file), "s").trials) == len(study.trials) == 1


def test_a_relative_url_is_made_absolute_and_one_in_memory_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_of(absolute("sqlite:///x/a.db")) == tmp_path / "x" / "a.db"
    assert file_of(absolute("sqlite+pysqlite:///a%3Fb.db")) == tmp_path / "a?b.db"
    assert make_url(absolute("sqlite:///a.db?timeout=5")).query == {"timeout": "5"}
    assert absolute("postgresql://me:p{x}@host/db") == "postgresql://me:p{x}@host/db"
    assert absolute("nonsense") == "nonsense"
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(BadOption, match="keeps nothing"):
            absolute(url)


def test_passwords_are_kept_out_of_what_is_written_and_said() -> None:
    url = "postgresql+psycopg2://me:SECRET@host/db"
    assert public(url) == "postgresql+psycopg2://me:***@host/db"
    assert without_password(url) == "postgresql+psycopg2://me@host/db"  # its driver asks PGPASSWORD
    told = "postgresql+psycopg2://host/db?user=me&password=SECRET"
    for tell in (public, without_password):
        assert tell(told) == "postgresql+psycopg2://host/db?user=me"
        assert "SECRET" not in tell("postgresql+psycopg2://me:SECRET@host:port/db")


def test_a_url_is_taken_from_the_environment_where_ps_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THERE", "sqlite:///x.db")
    monkeypatch.setenv("AGAIN", "env:THERE")
    assert file_of(absolute("env:THERE")) == tmp_path / "x.db"
    with pytest.raises(
        BadOption, match=r"--storage env:NONE: the variable NONE is not set; say for example export NONE="
    ):
        absolute("env:NONE")
    with pytest.raises(BadOption, match="names another variable"):
        absolute("env:AGAIN")
    with pytest.raises(BadOption, match="without a name"):
        absolute("env:")
    with pytest.raises(BadOption, match="name of a variable") as refused:
        absolute("env:postgresql://me:secret@host/db")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg2://me@127.0.0.1:1/db", "runs keep no passwords: .*export PGPASSWORD=.*~/.pgpass"),
        ("postgresql+psycopg2://me:SECRET@127.0.0.1:1/db", r"check the URL and that it is reachable$"),
    ],
)
def test_where_a_password_may_be_missing_the_error_says_where_it_is_looked_for(url: str, told: str) -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(StorageFailed, match=told) as error:
        load_study(url, "s")
    assert "SECRET" not in str(error.value)


def test_a_database_without_a_byte_of_space_is_read(tmp_path: Path) -> None:
    file, study = filled(tmp_path)
    del study
    gc.collect()
    settle(file_url(file))
    for log in tmp_path.glob("study.db-*"):
        log.unlink()
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "from wb.search.study.study import read_evaluated; from wb.core.measures.metrics import METRICS;"
        "print(len(read_evaluated(sys.argv[1], 's', (METRICS['acc'],), ())))"
    )
    result = subprocess.run([sys.executable, "-c", code, file_url(file)], capture_output=True, text=True, check=False)
    assert result.stdout == "1\n", result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"], "nothing was written beside it"


def test_what_is_in_a_log_is_read_where_nothing_can_be_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    file, study = filled(tmp_path / "first")
    copy = tmp_path / "study.db"
    for part in ("", "-wal"):
        shutil.copy(f"{file}{part}", f"{copy}{part}")
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM trials").fetchone()[0] == 0, "it is in the log alone"
    connect = sqlite3.connect

    def refuse(database: object, *arguments: object, **options: object) -> object:
        if "mode=ro" in str(database):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr("wb.search.study.storage.sqlite3.connect", refuse)
        assert len(read_evaluated(file_url(copy), "s", OBJECTIVES, ())) == len(study.trials) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "study.db", "study.db-wal"]


def test_another_database_is_named_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    file = tmp_path / "photos.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE photos (name TEXT)")
    before = file.read_bytes()
    with pytest.raises(BadArtefact, match=r"photos\.db is damaged"):
        load_study(file_url(file), "s")
    with pytest.raises(BadArtefact, match=r"photos\.db is damaged"):
        read_evaluated(file_url(file), "s", OBJECTIVES, ())
    assert file.read_bytes() == before
    with pytest.raises(StorageFailed, match="cannot be used"):
        create_study("sqlite:////proc/none/a.db", "s", OBJECTIVES)


def test_tables_of_another_version_are_named_with_what_to_do(tmp_path: Path) -> None:
    file, study = filled(tmp_path)
    study._storage.remove_session()
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE version_info SET schema_version = 1")
        db.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    for opened in (load_study, lambda url, name: create_study(url, name, OBJECTIVES)):
        with pytest.raises(
            StorageFailed, match=r"tables of another version of Optuna .*optuna storage upgrade --storage URL"
        ):
            opened(file_url(file), "another")


def test_a_server_is_knocked_at_before_there_is_work(tmp_path: Path) -> None:
    check_answers(file_url(tmp_path / "none.db"))  # a file will be made
    assert not list(tmp_path.iterdir())
    with pytest.raises((StorageFailed, BadOption), match=r"127\.0\.0\.1:1/x cannot be used"):  # or there is no driver
        check_answers("postgresql+psycopg2://me@127.0.0.1:1/x")


def test_a_heartbeat_that_cannot_be_written_is_missed_without_a_word(tmp_path: Path) -> None:
    """Its thread would print a traceback: a full disk is told where an evaluation is stored."""
    file, _ = filled(tmp_path)
    study = load_study(file_url(file), "s")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DROP TABLE trial_heartbeats")
    study._storage.record_heartbeat(1)  # type: ignore[attr-defined]
