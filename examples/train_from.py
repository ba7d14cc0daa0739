"""A trained model tuned for other data: it gets a new head where these have other classes than its own."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "a.pt", data: str = "imagefolder:photos", **options: Any) -> api.Model:
    tuned = api.train("tuned.safetensors", model=model, data=data, **options)
    print(tuned)
    return tuned


if __name__ == "__main__":
    main()
