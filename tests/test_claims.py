"""What the design says of the sources as a whole, checked on the sources: who may know which part of a network by name."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from wb.core import records
from wb.core.measures.metrics import ACCURACY
from wb.core.records import Part

ROOT = Path(__file__).parent.parent
FOLDERS = ("wb", "cli", "compress", "export", "fusion", "predictors", "search", "spaces")
HOMES = ("wb/core/records/", "wb/models/")  # records and modules
CONVERTS = (
    "compress/binarize/",
    "compress/convert/",
    "fusion/paper/",
    "wb/foreign/",
    "export/devices/nnmeter.py",
)  # passes from one operator to another, one for two operators only, and what other libraries can say
OFFERS = (
    "spaces/columnar/presets.py",
    "spaces/hybrid/presets.py",
    "spaces/hybrid/options.py",
    "spaces/hybrid/published.py",
    "spaces/columnar/plain.py",
    "spaces/columnar/revit.py",
)  # which operators a search may choose, and those of published networks
# Kinds that are words of other things too, of files, images, distances and steps for example.
WORDS = {
    "basic",
    "batch",
    "conv",
    "fused",
    "hash",
    "layer",
    "learned",
    "linear",
    "mask",
    "patch",
    "pool",
    "pre",
    "relative",
}
WORDS |= {"averaged", "post", "scale", "softmax", "mlp", "classify", "window", "parallel"}
MOST_FILES = 12


@cache
def parts() -> frozenset[type[Part]]:
    """Every record of a part, abstract ones too."""
    for module in pkgutil.iter_modules(records.__path__, "wb.core.records."):
        importlib.import_module(module.name)

    def below(base: type[Part]) -> Iterator[type[Part]]:
        for one in base.__subclasses__():
            yield one
            yield from below(one)

    return frozenset(one for one in below(Part) if one.__module__.startswith("wb."))


@cache
def sources() -> dict[str, ast.Module]:
    """The sources by their path in the repository; the links in wb/ are not followed."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The constant texts of a module with their lines; docstrings are sentences, which no name equals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_nobody_asks_for_the_class_of_a_record() -> None:
    """Records and their modules may, and the passes that are about certain operators."""
    names = {one.__name__ for one in parts()}
    found = []
    for path, tree in sources().items():
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wb.core.records")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                if asked & names & imported and not path.startswith((*HOMES, *CONVERTS)):
                    found.append(f"{path}:{node.lineno}")
    assert not found


def test_nobody_names_an_operator_but_presets_and_conversions() -> None:
    kinds = {str(one.model_fields["kind"].default) for one in parts() if "kind" in one.model_fields} - WORDS
    assert {"cosformer", "lmu", "performer", "glu", "rms", "inverted"} <= kinds
    found = [
        f"{path}:{line} {text}"
        for path, tree in sources().items()
        if not path.startswith((*HOMES, *CONVERTS, *OFFERS))
        for line, text in texts(tree)
        if text in kinds
    ]
    assert not found


def test_only_the_task_of_classes_knows_accuracy() -> None:
    known = {path for path, tree in sources().items() for _, text in texts(tree) if text == ACCURACY.name}
    assert known == {"wb/tasks/classes.py", "wb/core/measures/metrics.py"}


def test_a_folder_has_a_dozen_files_at_most() -> None:
    folders = [Path(path).parent for path in sources() if not path.endswith("__init__.py")]
    crowded = {str(folder) for folder in folders if folders.count(folder) > MOST_FILES}
    assert not crowded
