"""Put all that a device needs of a network into one folder, and try it out without wb."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "digits.safetensors", **options: Any) -> Any:
    bundle = api.bundle(model, "digits-bundle", **options)
    print(bundle)
    print("on the device: python infer.py --check; here are", *(path.name for path in bundle.files))
    return bundle


if __name__ == "__main__":
    main()
