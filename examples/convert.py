"""Give a model cheaper attention in its first block, and repair it."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str | None = None, **options: Any) -> api.Result[Any]:
    cheaper = api.convert(model, mixer="linear", layers="s0.b0", **options)
    print(cheaper)
    return cheaper


if __name__ == "__main__":
    main()
