"""What every job owes its user. A room's tests inherit it, and say only how their job begins.

Files become what they are by being renamed (`wb.core.system.files.replacing`), so that after each of these a process may end:
after every note of the record among them.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.jobs.frame.job import Job
from wb.jobs.frame.page import write_page
from wb.jobs.frame.record import JobRecord
from wb.jobs.frame.work import RECORD
from wb.models.model import load

_STOPPED = dict[type, Path]()  # the folder of a stopped job of each class of tests
MOST = 150  # processes, before a chain of them counts as endless
Begin = Callable[..., Job[Any]]  # (out, progress, other: whether its settings are others, force)


class Killed(BaseException):
    """The process is gone; no `Exception`, so that nothing goes on after it."""


def silent(*_: object) -> None:
    """Nobody listens to the job."""


class Links(HTMLParser):
    """Where a page points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name == "href" and value is not None}


def content(path: Path) -> object:
    """What has to be the same of a file: all of it, but for the times of a record.

    A page has them too, and the metadata of a model file come in any order.
    """
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        return {name: value for name, value in record.items() if name not in ("created", "seconds")}
    if path.suffix in (".safetensors", ".pt"):
        with suppress(BadArtefact, Unsupported):  # weights on the way, of no model yet, or one with exits
            model = load(path)
            return model.fingerprint(), model.history
    return path.suffix == ".html" or path.read_bytes()


def left(folder: Path) -> dict[str, object]:
    """All that a job has left."""
    return {path.name: content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


class JobSuite(ABC):
    """The tests; `ending` is that of the job's main file, `results` are those of all but record and page."""

    ending: ClassVar[str]
    results: ClassVar[tuple[str, ...]]

    @pytest.fixture
    @abstractmethod
    def begin(self) -> Begin:
        """Begins the job."""

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        """Where it writes: into a folder that is not there yet."""
        return tmp_path / "new" / f"x{self.ending}"

    @pytest.fixture
    def stopped(self, begin: Begin, out: Path, tmp_path_factory: pytest.TempPathFactory) -> Job[Any]:
        """A job that made everything and published nothing; it is run once, and copied for other tests of the class."""
        job, known = begin(out, silent), _STOPPED.get(type(self))
        if known is not None:
            shutil.copytree(known, job.work)
            return job
        with _stopped(job):
            job()
        _STOPPED[type(self)] = tmp_path_factory.mktemp("stopped") / "work"
        shutil.copytree(job.work, _STOPPED[type(self)])
        return job

    def test_it_leaves_what_it_says(self, begin: Begin, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its files, its record, which comes back, and its page, which points to the files."""
        monkeypatch.setattr("wb.jobs.frame.job.write_page", write_page)  # where the other tests of a module go without
        job = begin(out, silent)
        record = job()
        assert {path.name for path in out.parent.iterdir()} == {path.name for path in job.written()}
        assert sorted(path.suffix for path in out.parent.iterdir()) == sorted((".html", ".json", *self.results))
        assert job.record_type.read(job.record_path) == record
        assert record.done
        self._check_page(job, record)

    def _check_page(self, job: Job[Any], record: JobRecord[Any]) -> None:
        page = job.out.with_suffix(".html")
        files = {path.name for path in job.files().values()}
        assert files <= Links(page.read_text(encoding="utf-8")).found
        away = job.out.parent / "away" / "page.html"
        write_page(type(job), record, job.record_path, away)
        assert {f"../{name}" for name in files} <= Links(away.read_text(encoding="utf-8")).found
        with pytest.raises(BadOption, match="exists already"):
            write_page(type(job), record, job.record_path, away)

    @pytest.mark.usefixtures("unpaged")
    def test_killed_after_every_write_it_ends_as_if_it_had_not_been(
        self, begin: Begin, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One chain of processes: each is stopped when it has written something that none before it was stopped at."""
        whole = tmp_path / "whole" / out.name
        begin(whole, silent)()
        rename = Path.replace
        stopped: set[tuple[str, str]] = set()

        def kill(source: Path, target: str | Path) -> Path:
            moved = rename(source, target)
            now = (str(target), repr(content(Path(target))))
            if now in stopped or out.parent not in Path(target).parents:  # that is scratch, which nobody comes back to
                return moved
            stopped.add(now)
            raise Killed

        monkeypatch.setattr(Path, "replace", kill)
        for _ in range(MOST):
            try:
                begin(out, silent)()
                break
            except Killed:
                pass
        else:
            pytest.fail(f"no end after {MOST} processes")
        assert len(stopped) >= 3
        found, wanted = left(out.parent), left(whole.parent)
        assert found.keys() == wanted.keys()
        assert [name for name in found if found[name] != wanted[name]] == []

    @pytest.mark.usefixtures("unpaged")
    def test_a_file_in_the_way_at_the_end_is_kept_and_nothing_is_done_again(
        self, begin: Begin, out: Path, stopped: Job[Any]
    ) -> None:
        """It came after the beginning; with `force` it is replaced."""
        job = stopped
        theirs = {*job.files().values(), job.record_path, out.with_suffix(".html")}
        for path in theirs:
            path.write_text("theirs")
        for _ in range(2):
            with pytest.raises(BadOption, match="exists already"):
                begin(out, silent)()
            assert {one.read_text() for one in theirs if one.exists()} == {"theirs"}
        heard: list[str] = []
        record = begin(out, lambda what, *_: heard.append(what), force=True)()
        assert [what for what in heard if "reading" not in what] == []
        assert record.done
        assert not job.work.exists()

    @pytest.mark.usefixtures("unpaged")
    def test_what_others_began_is_left_alone(self, begin: Begin, out: Path, stopped: Job[Any]) -> None:
        """A folder of something else, one of other settings, a damaged record; and somebody who is at work there."""
        job, kept = stopped, out.parent / "kept"
        job.work.rename(kept)
        job.work.mkdir(parents=True)
        (job.work / "notes.txt").write_text("mine")
        with pytest.raises(BadArtefact, match=rf"x\.partial is no folder of an interrupted {job.record.called()}"):
            begin(out, silent)
        shutil.rmtree(job.work)
        kept.rename(job.work)
        before = left(job.work)
        with pytest.raises(BadArtefact, match=rf"x\.partial belongs to a {job.record.called()} with other settings"):
            begin(out, silent, other=True)
        assert left(job.work) == before
        (job.work / RECORD).write_text("{")
        with pytest.raises(BadArtefact, match=r"record\.json is damaged.*delete .*x\.partial"):
            begin(out, silent)

    @pytest.mark.usefixtures("unpaged")
    def test_two_at_once_are_refused(self, begin: Begin, out: Path) -> None:
        second = begin(out, silent)
        seen: list[str] = []

        def meanwhile(what: str, done: int, of: int) -> None:
            if not seen and second.work.exists():
                before = left(second.work)
                with pytest.raises(BadOption, match=r"another process is at work in .*x\.partial; wait for it"):
                    second()
                assert left(second.work) == before
                seen.append(what)
                raise Killed

        with pytest.raises(Killed):
            begin(out, meanwhile)()
        assert seen


class _stopped:  # noqa: N801  # a context manager
    """Within it, a job ends when everything is made and nothing is published."""

    def __init__(self, job: Job[Any]) -> None:
        self.job = job

    def __enter__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(type(self.job), "_publish", _killed)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.patch.undo()
        assert kind is Killed
        return True


def _killed(_: Job[Any]) -> None:
    raise Killed
