"""Give a model binary weights, and fine-tune it."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str | None = None, **options: Any) -> api.Result[Any]:
    binary = api.binarize(model, weights="w1", **options)
    print(binary)
    return binary


if __name__ == "__main__":
    main()
