"""Compare few wide blocks with many narrow ones, at equal heads in all and at equal size."""

from __future__ import annotations

from typing import Any

from wb import api


def main(data: str = "listops", **options: Any) -> api.Result[Any]:
    shapes = api.sweep_aspect(data, **options)
    print(shapes)
    return shapes


if __name__ == "__main__":
    main()
