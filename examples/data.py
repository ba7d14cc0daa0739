"""See what was understood of data before anything is trained on them."""

from __future__ import annotations

from typing import Any

from wb import api


def main(spec: str = "digits", **options: Any) -> Any:
    data = api.data(spec, **options)
    print(data)
    print("largest class over smallest:", round(data.summary.imbalance, 2))
    print("samples are in", data.page("data.html", force=True))
    return data


if __name__ == "__main__":
    main()
