"""Let easy images leave a model after its first block."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str | None = None, **options: Any) -> api.Result[Any]:
    early = api.exits(model, **options)
    print(early)
    return early


if __name__ == "__main__":
    main()
