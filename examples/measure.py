"""Write a model as an ONNX graph, measure it, and name the classes of some pictures."""

from __future__ import annotations

from typing import Any

from wb import api


def main(model: str = "digits.safetensors", **options: Any) -> Any:
    graph = api.export(model, force=True)
    print(graph)
    test = api.data("digits").dataset.test
    print("the first test images are", *graph(test.pixels(slice(0, 5))))
    measured = api.measure(graph.path, **options)
    print(measured)
    return measured


if __name__ == "__main__":
    main()
