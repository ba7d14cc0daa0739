"""Halve the latency of a model; without one, of the stock model."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str | None = None, **options: Any) -> api.Result[Any]:
    smaller = api.prune(model, **{"budget": "latency=0.5x", **options})
    print(smaller)
    return smaller


if __name__ == "__main__":
    main()
