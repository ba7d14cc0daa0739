"""The package lists its folders by hand: one left out works in an editable install and is missing from the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    found = {"wb"}
    for name, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder)
            # `rglob` does not follow the links in wb/, which are the top-level folders again.
            found.add(".".join([name, *inner.parts]))
    assert found == set(SETUPTOOLS["packages"])


def test_every_top_level_folder_is_linked_into_wb() -> None:
    for name, folder in SETUPTOOLS["package-dir"].items():
        if name != "wb":
            link = ROOT / "wb" / name.removeprefix("wb.")
            assert link.is_symlink()
            assert link.resolve() == (ROOT / folder).resolve()


def test_templates_are_packaged() -> None:
    patterns = SETUPTOOLS["package-data"]
    for package, folder in SETUPTOOLS["package-dir"].items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".jinja", ".js", ".LICENSE") and path.is_file():
                inner = path.parent.relative_to(ROOT / folder).parts
                assert any(path.match(pattern) for pattern in patterns.get(".".join([package, *inner]), ())), path


def test_every_dependency_that_is_imported_is_declared() -> None:
    import ast
    import sys

    declared = {line.split(">")[0].split("<")[0].strip() for line in PROJECT["project"]["dependencies"]}
    names = {"PIL": "pillow", "ot": "pot", "sklearn": "scikit-learn"}
    used = set()
    for folder in ("wb", "cli", "compress", "export", "fusion", "predictors", "search", "spaces"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    modules = [node.module]
                used |= {module.split(".")[0] for module in modules}
    third_party = {names.get(name, name) for name in used if name not in sys.stdlib_module_names and name != "wb"}
    assert third_party <= declared, third_party - declared
