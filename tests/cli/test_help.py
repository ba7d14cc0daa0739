"""Help shows every default, whatever the width of the terminal, and eats nothing that stands in brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperArgument, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from wb.cli.frame.options import FORMER
from wb.cli.main import app

Found = tuple[tuple[str, ...], typer.core.TyperCommand]


def commands(group: object = None, path: tuple[str, ...] = ()) -> Iterator[Found]:
    """Every command with the words that call it."""
    found = group or get_command(app)
    for name, command in getattr(found, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def rendered(path: tuple[str, ...], columns: int) -> str:
    """The help of a command without frames and line breaks."""
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return squeezed(re.sub("[│╭╮╰╯─]", " ", result.output))


def squeezed(text: str) -> str:
    """Without white space: where a narrow column broke a line is of no interest."""
    return "".join(text.split())


ALL = list(commands())


def test_every_command_is_walked() -> None:
    names = {" ".join(path) for path, _ in ALL}
    assert {
        "search",
        "train",
        "prune nvit",
        "prune depth",
        "prune depgraph",
        "analyze depth",
        "fuse",
        "doctor",
    } <= names


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_help_shows_every_default(path: tuple[str, ...], command: typer.core.TyperCommand, columns: int) -> None:
    text = rendered(path, columns)
    for parameter in command.params:
        assert isinstance(parameter, TyperOption | TyperArgument)
        if columns >= 200:  # in a narrow one, the columns beside it stand between its lines
            assert squeezed(parameter.help or "") in text, "nothing is eaten"
        shown = parameter.show_default
        if isinstance(shown, str):
            expected = f"[default: ({shown})]"
        elif parameter.default in (None, False, ()) or shown is False or callable(parameter.default):
            continue
        elif parameter.default is True:
            expected = f"[default:{parameter.opts[0].removeprefix('--')}]"
        else:
            expected = f"[default:{parameter.default}]"
        assert squeezed(expected) in text, f"{parameter.name}: {expected}"
    assert "default:" not in "".join(p.help or "" for p in command.params if isinstance(p, TyperOption | TyperArgument))
    assert squeezed(command.help or "") in text
    own = "".join(
        [command.help or "", *(p.help or "" for p in command.params if isinstance(p, TyperOption | TyperArgument))]
    )
    assert text.count("…") == own.count("…"), "nothing is cut off"


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_option_has_a_default_to_show(path: tuple[str, ...], command: typer.core.TyperCommand) -> None:
    """In words where it is computed; but for flags, which are off, and what has to be given."""
    for parameter in command.params:
        assert isinstance(parameter, TyperOption | TyperArgument)
        flag = isinstance(parameter, TyperOption) and parameter.is_flag
        shown = isinstance(parameter.show_default, str) or parameter.default not in (None, (), [])
        assert parameter.required or flag or shown, f"{' '.join(path)}: {parameter.name} says no default"


def test_one_thing_has_one_name_and_its_former_one_still_works() -> None:
    for path, command in ALL:
        own = {name for parameter in command.params for name in parameter.opts}
        assert not own & FORMER.keys(), "a former name is shown"
        for old, new in FORMER.items():
            if new in own:
                for form in ([old, "x"], [f"{old}=x"]):  # reaches the option: its value is what is refused
                    result = CliRunner().invoke(app, [*path, *form], env={"COLUMNS": "200"})
                    assert result.exit_code == 2
                    assert f"Invalid value for '{new}'" in result.output
    assert CliRunner().invoke(app, ["show", "--rate", "1"]).exit_code == 2, "not where there is no such option"
