"""Name the classes of pictures, with probabilities."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "digits.safetensors", **options: Any) -> Any:
    pictures = list(api.data("digits").dataset.test.images[:5])
    found = api.predict(model, pictures, **{"top": 2, **options})
    print(found)
    print("the first test images are", *found.names)
    return found


if __name__ == "__main__":
    main()
