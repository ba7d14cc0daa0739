"""Files in the storage of a study come back as they were, or not at all."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from wb.core.errors import BadArtefact
from wb.search.crew.shelf import PIECE, SUFFIX, Shelf
from wb.search.study.storage import file_url


def test_files_come_back_whole_and_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = file_url(tmp_path / "study.db")
    shelf = Shelf(url, "s")
    large = bytes(range(256)) * (PIECE // 256 + 3)
    assert shelf.get() == {}
    shelf.put({"empty": b"", "large": large})
    assert Shelf(url, "s").get() == {"empty": b"", "large": large}
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", lambda *_: pytest.fail("it is there already"))
        shelf.put({"large": large})
    shelf.put({"large": b"small now"})
    assert shelf.get() == {"empty": b"", "large": b"small now"}
    assert Shelf(url, "another").get() == {}


@pytest.mark.parametrize(
    "damage",
    [
        ("large/0", "AAAA"),
        ("large/0", "no base64"),
        ("files", {"large": [2, "0"]}),
        ("files", {"../large": [0, "0"]}),
        ("files", {"/tmp/large": [0, "0"]}),
        ("files", {"large": [10**9, "0"]}),
        ("files", 3),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damage: tuple[str, object]) -> None:
    url = file_url(tmp_path / "study.db")
    Shelf(url, "s").put({"large": b"x" * 100})
    optuna.load_study(storage=url, study_name=f"s{SUFFIX}").set_user_attr(*damage)
    with pytest.raises(BadArtefact, match="stores them again"):
        Shelf(url, "s").get()


def test_a_database_without_tables_has_no_runs(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    assert Shelf.studies(f"sqlite:///{tmp_path / 'empty.db'}") == {}
    assert Shelf.studies(f"sqlite:///{tmp_path / 'none.db'}") == {}
    assert not (tmp_path / "none.db").exists()
