"""What jobs share: wall times that add up, a record that lies in the folder, and reading one back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from wb.core.errors import BadArtefact, BadOption
from wb.core.files import write_text
from wb.core.records import Frozen
from wb.jobs.job import Recorded, read_record


class Kept(Frozen):
    """A record."""

    seconds: Mapping[str, float] = {}
    done: int = 0

    def write(self, path: Path, *, force: bool = True) -> None:
        write_text(path, self.model_dump_json(), force=force)


@dataclass
class Job(Recorded[Kept]):
    """A job that does nothing."""

    record: Kept
    out: Path
    force: bool = False


def begun(folder: Path, *, force: bool = False) -> Job:
    job = Job(Kept(), folder / "a.pt", force)
    job.work.mkdir()
    return job


def page(record: Kept, record_path: Path, path: Path, *, beside: Path, force: bool) -> Path:
    write_text(path, f"{record.done} {record_path.name} {beside.name}", force=force)
    return path


def test_what_is_noted_lies_in_the_folder(tmp_path: Path) -> None:
    job = begun(tmp_path)
    before = job.record
    job._note(done=3)
    assert job.record.done == 3
    assert before.done == 0
    assert read_record(Kept, tmp_path / "a.partial" / "record.json", "test", "test") == job.record


def test_wall_times_add_up(tmp_path: Path) -> None:
    job = begun(tmp_path)
    job._took({"one": 1.0})
    job._took({"one": 0.254, "other": 2.0})
    with job._timed("third"):
        pass
    assert job.record.seconds == {"one": 1.25, "other": 2.0, "third": pytest.approx(0, abs=0.1)}


def test_the_end_leaves_record_and_report_and_no_folder(tmp_path: Path) -> None:
    job = begun(tmp_path)
    job._note(done=1)
    job._close(page)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.html"}
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == f"1 a.json {tmp_path.name}"
    assert read_record(Kept, job.record_path, "test", "test") == job.record


def test_a_file_in_the_way_is_kept_and_so_is_the_folder(tmp_path: Path) -> None:
    job = begun(tmp_path)
    job._note(done=1)
    job.record_path.write_text("mine", encoding="utf-8")
    with pytest.raises(BadOption, match=r"a\.json exists already"):
        job._close(page)
    assert job.record_path.read_text(encoding="utf-8") == "mine"
    assert (job.work / "record.json").exists()


@pytest.mark.parametrize("content", [b"{}x", b'{"done": "many"}', b'{"other": 1}', b"\xff"])
def test_damaged_records_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadArtefact, match=r"a\.json (is damaged or no record of a pruning|cannot be read)"):
        read_record(Kept, path, "pruning", "prune")
    path.unlink()
    with pytest.raises(BadArtefact, match="expected the JSON that `wb prune` wrote"):
        read_record(Kept, path, "pruning", "prune")


def test_what_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    job = Job(Kept(), tmp_path / "new" / "er" / "a.pt")
    abandon = job._open()
    job._note()
    assert job.work.is_dir()
    abandon()
    assert list(tmp_path.iterdir()) == []
    kept = Job(Kept(), tmp_path / "new" / "a.pt")
    abandon = kept._open()
    (tmp_path / "new" / "other").write_text("somebody else's", encoding="utf-8")
    abandon()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other"]
