"""Every benchmark says what it takes, and prints Markdown that a page can be made of. None is run here."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
WORKER = "fusion_scale"  # a process of `benchmarks/fusion.py scale`, without options of its own
NO_SECTION = ("digests", "plot_front", "results")  # what they print is not for the page
SCRIPTS = sorted(
    path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text() and path.stem != WORKER
)


@pytest.fixture(autouse=True)
def _as_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts import each other by bare names, and some set variables that only they should see."""
    monkeypatch.syspath_prepend(FOLDER)
    with patch.dict(os.environ):
        yield


def loaded(name: str) -> SimpleNamespace:
    """What a script defines; its `main` is not run."""
    return SimpleNamespace(**runpy.run_path(str(FOLDER / f"{name}.py"), run_name=f"benchmark_{name}"))


@pytest.fixture
def tables() -> Any:
    return loaded("tables")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = loaded(name).arguments()
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--help"])
    assert ended.value.code == 0
    options = re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)
    assert "--help" in options
    assert ("--markdown" in options) == (name not in NO_SECTION)


def table_of(tables: Any) -> Any:
    table = tables.Table("a | b", ("method", "ms", "note"), left=("note",))
    table.row("one|two", "1.5", "")
    table.rule()
    table.row("three", "12", "on two\nlines")
    return table


def test_markdown_has_as_many_cells_in_every_line(tables: Any) -> None:
    title, blank, *lines = table_of(tables).markdown().split("\n")
    assert (title, blank) == (r"**a \| b**", "")
    assert lines[1] == "| :-- | --: | :-- |"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert lines[2:] == [r"| one\|two | 1.5 |  |", "| three | 12 | on two lines |"]


def test_a_row_has_a_cell_for_every_column(tables: Any) -> None:
    with pytest.raises(ValueError, match=r"2 cells in a table of 3 columns \(method, ms, note\)"):
        table_of(tables).row("one", "two")


def test_a_terminal_shows_the_same_cells(tables: Any, capsys: pytest.CaptureFixture[str]) -> None:
    table = table_of(tables)
    table.row("[red]", "0", "no markup")
    tables.Output(markdown=False).table(table)
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in ("a | b", "one|two", "1.5", "on two", "lines", "[red]", "no markup"))


def test_markdown_is_all_that_stdout_has(tables: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out, table = tables.Output(markdown=True), table_of(tables)
    out.table(table, interim=True)
    tables.told("one of", 2)
    assert (shown := capsys.readouterr()).out == ""
    assert "three" in shown.err
    assert "one of 2" in shown.err
    out.table(table)
    out.say("met")
    assert capsys.readouterr().out == table.markdown() + "\n\nmet\n\n"


def test_the_head_has_command_date_and_machine(
    tables: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = tables.parser_of("what it is")
    parser.add_argument("suite")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--rows")
    place = str(FOLDER / "some.py")
    monkeypatch.setattr(sys, "argv", [place, "speed", "--data", "idx:/some/where/mnist", "--rows", "a|b", "--markdown"])
    options, out = tables.begin(parser)
    assert options.data == "idx:/some/where/mnist"
    assert out.markdown
    heading, _, command, day, machine, libraries, *_ = capsys.readouterr().out.split("\n")
    assert heading == "## some speed mnist"
    assert command == "- command: `python benchmarks/some.py speed --data idx:PATH/mnist --rows 'a|b'`"
    assert date.fromisoformat(day.removeprefix("- date: "))
    assert re.match(r"- machine: \d+ cores, \S", machine)
    assert "torch" in libraries


def test_without_markdown_nothing_is_printed_before_the_run(
    tables: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["some.py"])
    _, out = tables.begin(tables.parser_of(None))
    assert not out.markdown
    assert capsys.readouterr().out == ""


def test_a_section_replaces_the_one_of_its_heading() -> None:
    placed = loaded("results").placed
    page = "# Results\n\nHow to read it.\n\n## a\n\nold\n\n## a b\n\nstays\n"
    once = placed(page, "## a\n\n- new\n\n")
    assert once == "# Results\n\nHow to read it.\n\n## a\n\n- new\n\n## a b\n\nstays\n"
    assert placed(once, "## a\n\n- new\n\n") == once
    assert placed(once, "## c\n\nlast\n").startswith(once)
    assert placed(once, "## c\n\nlast\n").endswith("## c\n\nlast\n")


def test_the_page_has_sections_of_benchmarks_that_exist() -> None:
    page = (FOLDER.parent / "docs" / "results.md").read_text(encoding="utf-8")
    commands = re.findall(r"benchmarks/(\w+)\.py", page)
    assert set(commands) <= {path.stem for path in FOLDER.glob("*.py")}
    assert set(SCRIPTS) - set(NO_SECTION) <= set(commands)
    headings = [heading.split()[0] for heading in re.findall(r"(?m)^## (.+)", page)]
    assert set(headings) == {"Where", *SCRIPTS} - set(NO_SECTION)


def test_a_benchmark_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["results.py", "--into", str(tmp_path / "page.md"), "no-such"])
    with pytest.raises(SystemExit, match="there is no benchmark 'no-such'; give the name of a script"):
        loaded("results").main()
    assert not (tmp_path / "page.md").exists()
