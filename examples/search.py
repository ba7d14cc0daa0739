"""Search a space of small transformers, and name a digit with the fastest network of the front."""

from __future__ import annotations

from typing import Any

from wb import api


def main(**options: Any) -> api.Front:
    front = api.search(**{"objectives": "acc,latency", **options})
    print(front)
    picture = api.data("digits").dataset.test.pixels()[0]
    print("the first test image is a", *front[0](picture))
    return front


if __name__ == "__main__":
    main()
