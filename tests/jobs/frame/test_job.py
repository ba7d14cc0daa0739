"""What the frame of a job does: wall times that add up, a record that lies in the folder, files that are published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import JsonValue

from wb.core.errors import BadArtefact, BadOption
from wb.core.system.files import write_text
from wb.jobs.frame.begin import begin
from wb.jobs.frame.config import JobConfig
from wb.jobs.frame.job import Job
from wb.jobs.frame.page import links, settings, write_page
from wb.jobs.frame.record import JobRecord, Recorder, origin
from wb.jobs.frame.work import LOCK, work_of


class Toying(JobRecord[JobConfig]):
    """A record."""

    verb = "toy"

    kind: Literal["toying"] = "toying"
    model: str = "m"
    count: int = 0

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        return {"model": self.model}

    @property
    def begun(self) -> bool:
        return self.count > 0

    @property
    def done(self) -> bool:
        return self.count > 2


class Toy(Job[Toying]):
    """A job that writes one number three times."""

    record_type = Toying
    page = f"{__name__}:shown"

    def make(self) -> None:
        for number in range(self.record.count + 1, 4):
            with self.timed("counting"):
                self.progress("counting", number, 3)
                write_text(self.work / "result.txt", str(number))
            self.note(count=number)

    def files(self) -> Mapping[str, Path]:
        return {"result.txt": self.out}


def shown(record: Toying, folder: Path, beside: Path) -> str:
    return f"{record.count} {folder.name} {beside.name}"


def told(*_: object) -> None:
    """Nobody listens."""


def record(**changes: object) -> Toying:
    return Toying.model_validate({**origin("cpu"), "config": JobConfig(), **changes})


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file is no module that could be imported by its name."""
    monkeypatch.setattr("wb.jobs.frame.page.resolve_name", lambda name: {f"{__name__}:shown": shown}[name])


def test_wall_times_add_up(tmp_path: Path) -> None:
    recorder = Recorder(record(), tmp_path / "r.json")
    recorder.took({"one": 1.0})
    recorder.took({"one": 0.254, "other": 2.0})
    with recorder.timed("third"):
        pass
    assert recorder.record.seconds == {"one": 1.25, "other": 2.0, "third": pytest.approx(0, abs=0.1)}
    assert not list(tmp_path.iterdir())
    before = recorder.record
    recorder.note(count=3)
    assert (before.count, recorder.record.count) == (0, 3)
    assert Toying.read(tmp_path / "r.json") == recorder.record


def test_the_end_leaves_files_record_and_page_and_no_folder(tmp_path: Path) -> None:
    job = Toy(record(), tmp_path / "new" / "a.txt", told)
    assert job() == Toying.read(job.record_path)
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir() if path.suffix != ".json"} == {
        "a.txt": "3",
        "a.html": "3 new new",
    }


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.html"])
def test_a_file_in_the_way_is_kept_and_so_is_what_is_done(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(BadOption, match=f"{name} exists already"):
        Toy(record(), tmp_path / "a.txt", told)()
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    left = begin(Toying, JobConfig(), {"model": "m"}, tmp_path / "a.txt")
    assert left is not None
    assert left.done
    assert Toy(left, tmp_path / "a.txt", lambda *_: pytest.fail("it is made again"), force=True)() == left


def test_a_second_process_does_not_do_again_what_the_first_has_finished(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    with pytest.raises(KeyboardInterrupt):
        Toy(record(), out, stopping(KeyboardInterrupt(), 2))()  # type: ignore[arg-type]
    left = begin(Toying, JobConfig(), {"model": "m"}, out)
    assert left is not None
    first, second = (Toy(left, out, told) for _ in range(2))
    first()
    with pytest.raises(BadOption, match=r"another process has just finished what was begun in .*a\.partial"):
        second()
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.json", "a.html"}


def stopping(error: BaseException, at: int) -> object:
    def heard(_: str, done: int, __: int) -> None:
        if done == at:
            raise error

    return heard


@pytest.mark.parametrize(
    ("error", "at", "kept"),
    [(BadOption("no"), 1, False), (BadOption("no"), 2, True), (KeyboardInterrupt(), 1, True), (OSError(), 1, True)],
)
def test_what_the_job_refuses_at_once_leaves_nothing(tmp_path: Path, error: BaseException, at: int, kept: bool) -> None:
    out = tmp_path / "new" / "er" / "a.txt"
    with pytest.raises(type(error)):
        Toy(record(), out, stopping(error, at))()  # type: ignore[arg-type]
    assert work_of(out).is_dir() == kept
    assert (tmp_path / "new").exists() == kept


def test_folders_that_others_use_stay(tmp_path: Path) -> None:
    def heard(*_: object) -> None:
        (tmp_path / "new" / "other").write_text("somebody else's", encoding="utf-8")
        raise BadOption("no")

    with pytest.raises(BadOption):
        Toy(record(), tmp_path / "new" / "a.txt", heard)()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other"]


def test_nothing_there_is_nothing_to_continue(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    assert begin(Toying, JobConfig(), {}, out) is None
    assert not work_of(out).exists()
    work_of(out).mkdir()
    assert begin(Toying, JobConfig(), {}, out) is None, "an empty one"
    (work_of(out) / LOCK).touch()
    assert begin(Toying, JobConfig(), {}, out) is None, "one that was just made"


@pytest.mark.parametrize("name", ["a.partial", "a.partial/notes.txt", "a.partial/sub/notes.txt"])
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("mine")
    with pytest.raises(BadArtefact, match=r"a\.partial is no folder of an interrupted toying; move it away"):
        begin(Toying, JobConfig(), {}, tmp_path / "a.txt")
    assert theirs.read_text() == "mine"


def test_another_jobs_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    work_of(out).mkdir()
    record().write(work_of(out) / "record.json")
    assert begin(Toying, JobConfig(), {"model": "m"}, out) == Toying.read(work_of(out) / "record.json")
    for config, model in ((JobConfig(limit=3), "m"), (JobConfig(), "other")):
        with pytest.raises(BadArtefact, match=r"a\.partial belongs to a toying with other settings, another model or"):
            begin(Toying, config, {"model": model}, out)


@pytest.mark.parametrize("content", [b"{}x", b"{}", b'{"count": "many"}', b'{"other": 1}', b"\xff"])
def test_damaged_records_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.partial").mkdir()
    path = tmp_path / "a.partial" / "record.json"
    path.write_bytes(content)
    said = r"record\.json (is damaged or no record of a toying|cannot be read)"
    with pytest.raises(BadArtefact, match=said):
        Toying.read(path)
    with pytest.raises(BadArtefact, match=rf"{said}.*delete .*a\.partial"):
        begin(Toying, JobConfig(), {}, tmp_path / "a.txt")
    with pytest.raises(BadArtefact, match="expected the JSON that `wb toy` wrote"):
        Toying.read(tmp_path / "none.json")


def test_a_page_is_of_what_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(BadArtefact, match=r"a\.json is of a toying that is not finished"):
        write_page(Toy, record(count=1), tmp_path / "a.json", path)
    assert write_page(Toy, record(count=3), tmp_path / "a.json", path, beside=Path("x")) == path
    assert path.read_text() == f"3 {tmp_path.name} x"
    with pytest.raises(BadOption, match="exists already"):
        write_page(Toy, record(count=3), tmp_path / "a.json", path)


def test_links_are_relative_and_only_of_what_is_there(tmp_path: Path) -> None:
    assert links({"model": "a.pt", "graph": None}, tmp_path, tmp_path / "page") == {"model": "../a.pt"}


def test_settings_say_where_and_how_long() -> None:
    found = settings(record(seconds={"one": 1.25}), {"data": {"spec": "digits"}}, reference_graph="2 ms")
    assert list(found) == ["data", "machine", "versions", "wall time"]
    assert found["machine"]["reference graph"] == "2 ms"
    assert found["wall time"] == {"one": "1.2 s"}
