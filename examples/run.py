"""Name the classes of pictures by a network that several processes may share, some of whose weights may come and go."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "digits.safetensors", **options: Any) -> Any:
    pictures = list(api.data("digits").dataset.test.images[:5])
    found = api.run(model, pictures, **{"batch": 2, **options})  # files, and pipeline=2: two processes
    print(found)
    print("the first test images are", *found.names)
    return found


if __name__ == "__main__":
    main()
