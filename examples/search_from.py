"""Two smaller networks made of a trained one."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "a.pt", **options: Any) -> api.Result[Any]:
    smallest = api.search_from(model, **{"budget": "latency=0.5x,0.3x", **options})
    print(smallest)
    return smallest


if __name__ == "__main__":
    main()
