"""See what two models differ in, for example a model and what pruning made of it."""

from __future__ import annotations

from typing import Any

from wb import api


def main(a: str = "digits.safetensors", b: str = "smaller.safetensors", **options: Any) -> Any:
    found = api.diff(a, b, **options)
    print(found)
    print("the page is", found.page("diff.html", force=True))
    return found


if __name__ == "__main__":
    main()
