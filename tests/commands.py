"""`wb` within the process of a test."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from wb.cli.main import app


def wb(*arguments: object) -> Result:
    """What the command says, and how it ends."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    """What a command says that ends well."""
    result = wb(*arguments)
    assert result.exit_code == 0, result.output
    return result


def files(folder: Path) -> set[str]:
    """All that is in a folder and below, by its name there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
