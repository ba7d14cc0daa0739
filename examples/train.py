"""Train the largest network of the smallest preset on handwritten digits."""

from __future__ import annotations

from typing import Any

from wb import api


def main(out: str = "digits.safetensors", **options: Any) -> api.Model:
    model = api.train(out, data="digits", **options)
    print(model)
    return model


if __name__ == "__main__":
    main()
