"""What is refused before a search begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.measures.readings import Reading
from wb.core.precision import precisions
from wb.core.records import ImageInput
from wb.search.beginning import budget as budgets
from wb.search.beginning.config import SearchConfig
from wb.search.evaluate import Evaluation
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

SAVED = {"mixer.in": 300, "mixer.out": -100, "ffn.in": 200, "ffn.out": 200, "stem": -500, "head": -500}


def bytes_of(architecture: Architecture) -> int:
    """As if int8 saved something in some groups, and took more in others."""
    kept = precisions(architecture)
    return 10_000 - sum(SAVED[".".join(group.split(".")[-2:])] for group in kept if kept[group] == "int8")


def check(monkeypatch: pytest.MonkeyPatch, image: ImageInput, budget: str) -> int:
    """Checks a budget; gives the number of evaluations."""
    seen: list[Architecture] = []

    def evaluate(architecture: Architecture) -> Evaluation:
        seen.append(architecture)
        size = Reading(value=bytes_of(architecture), unit="B", how="counted")
        return Evaluation({"size": size, "params": size.model_copy(update={"unit": "parameters"})}, {})

    monkeypatch.setattr(budgets, "Evaluator", lambda *_, **__: evaluate)
    changes: dict[str, Any] = {"precision": ["int8", "fp32"], "mixer": ["softmax"], "mlp": [2.0], "depth": [2, 3]}
    space = Vit(options_with(TINY, changes), image, 3)
    config = SearchConfig(budget=(budget,))
    unused: Any = SimpleNamespace()
    budgets.check_budget(config, space, unused, unused)
    return len(seen)


def test_a_budget_is_refused_only_where_no_mixture_of_precisions_meets_it(
    monkeypatch: pytest.MonkeyPatch, image: ImageInput
) -> None:
    assert check(monkeypatch, image, "size=10000B") == 2  # all in fp32 meets it, all in int8 does not
    check(monkeypatch, image, "size=8600B")  # two blocks with three groups each in int8: 1400 B less
    with pytest.raises(BudgetMissed, match=r"size <= 8.599 kB cannot be met: .* has 8.6 kB here"):
        check(monkeypatch, image, "size=8599B")
    with pytest.raises(BudgetMissed, match=r"params <= 8 k cannot be met"):
        check(monkeypatch, image, "params=8000")
