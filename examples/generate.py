"""Train a small network to foresee the next character of a text, and let it continue one."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "prose.safetensors", text: str = "lm", **options: Any) -> Any:
    api.train(model, data=text, **options)
    found = api.generate(model, "a t", tokens=40, quiet=True)
    print(found)
    return found


if __name__ == "__main__":
    main()
