"""Find a precision for every group of weights, so that the file is a third as large."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str | None = None, **options: Any) -> api.Result[Any]:
    quantized = api.quantize(model, **{"budget": "size=0.35x", **options})
    print(quantized)
    return quantized


if __name__ == "__main__":
    main()
