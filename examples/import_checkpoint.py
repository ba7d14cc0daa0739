"""Read a model of another library exactly, write it as one file of plain PyTorch, and hand it back as it came."""

from __future__ import annotations

from typing import Any

from wb import api


def main(checkpoint: str = "my-deit", **options: Any) -> Any:
    model = api.import_checkpoint(checkpoint, "imported.safetensors", force=True, **options)
    print(model)
    print("plain PyTorch:", *api.export_to(model, "plain", "torch", force=True))
    print("as it came:", *api.export_to(model, "back", "source", force=True))
    return model


if __name__ == "__main__":
    main()
