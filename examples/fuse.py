"""Fuse models into one; without any, two stock models that were trained with different seeds."""

from __future__ import annotations

from typing import Any

from wb import api


def main(*models: str, **options: Any) -> api.Result[Any]:
    fused = api.fuse(*models, **options)
    print(fused)
    return fused


if __name__ == "__main__":
    main()
