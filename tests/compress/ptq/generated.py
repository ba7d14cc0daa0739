"""Small foreign graphs, drawn: products in every form that exporters write, with constants wherever they may be."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

TOKENS = 3


@dataclass(frozen=True)
class Expected:
    """A product: how many weights it has, and whether they can be put into 8 and 4 bits."""

    numbers: int
    int8: bool
    int4: bool


@dataclass
class Drawn:
    """A graph that takes `x` (n, TOKENS, width) and gives `out`; `expected` are its products in any order."""

    seed: int
    draw: random.Random = field(init=False)
    numbers: np.random.Generator = field(init=False)
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)
    last: str = "x"
    count: int = 0

    def __post_init__(self) -> None:
        self.draw, self.numbers = random.Random(self.seed), np.random.default_rng(self.seed)
        self.taken = self.width = self.draw.randint(2, 9)

    def model(self, layers: int = 4) -> onnx.ModelProto:
        """Draws `layers` of them, with a tanh behind each."""
        forms: list[Callable[[int], str]] = [
            *(self.plain, self.transposed, self.cast, self.hidden, self.batched, self.unit, self.gemm),
            *(self.branches, self.loop, self.left, self.twice, self.tied),
        ]
        for form in self.draw.sample(forms, layers):
            width = self.draw.randint(2, 9)
            self.last = self.node("Tanh", [form(width)])
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", TOKENS, size])
            for name, size in (("x", self.taken), (self.last, self.width))
        ]
        tensors = [numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        old = self.draw.random() < 0.3  # every constant is an input then
        more = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors] if old else []
        graph = helper.make_graph(self.nodes, "drawn", [ends[0], *more], [ends[1]], tensors)
        opset = helper.make_opsetid("", 11 if old else 13)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=3 if old else 8)
        onnx.checker.check_model(model)
        return model

    # ------------------------------------------------------------------------------------------------------------- parts

    def node(self, kind: str, inputs: list[str], into: list[NodeProto] | None = None, **attributes: Any) -> str:
        """Adds a node, without a name or with that of one in another graph, and gives the name of what it makes."""
        self.count += 1
        nodes = self.nodes if into is None else into
        out, name = f"v{self.count}", self.draw.choice(["", f"{kind}_{len(nodes)}"])
        nodes.append(helper.make_node(kind, inputs, [out], name=name, **attributes))
        return out

    def constant(self, *shape: int, kind: type[np.generic] = np.float32) -> str:
        """Random weights, as large as keeps activations as they are."""
        self.count += 1
        values = self.numbers.normal(size=shape) * (shape[-2] if len(shape) > 1 else 1) ** -0.5
        self.constants[f"c{self.count}"] = values.astype(kind)
        return f"c{self.count}"

    def whole(self, *values: int) -> str:
        """A constant of integers."""
        self.count += 1
        self.constants[f"c{self.count}"] = np.array(values, np.int64)
        return f"c{self.count}"

    def expect(self, numbers: int, *, int8: bool = True, int4: bool = True) -> None:
        """Notes a product."""
        self.expected.append(Expected(numbers, int8, int4))

    def product(self, weights: str, width: int, into: list[NodeProto] | None = None, of: str | None = None) -> str:
        """The last value times `weights`, `width` columns of them."""
        self.expect(self.width * width)
        return self.node("MatMul", [of or self.last, weights], into)

    def widened(self, out: str, width: int) -> str:
        """Notes what the last axis of the layer's value is."""
        self.width = width
        return out

    # ------------------------------------------------------------------------------------------------------------ layers

    def plain(self, width: int) -> str:
        return self.widened(self.product(self.constant(self.width, width), width), width)

    def transposed(self, width: int) -> str:
        weights = self.node("Transpose", [self.constant(width, self.width)], perm=[1, 0])
        return self.widened(self.product(weights, width), width)

    def cast(self, width: int) -> str:
        weights = self.node("Cast", [self.constant(self.width, width, kind=np.float64)], to=TensorProto.FLOAT)
        return self.widened(self.product(weights, width), width)

    def hidden(self, width: int) -> str:
        """In a Constant, behind an Identity."""
        values = self.numbers.normal(size=(self.width, width)).astype(np.float32) * self.width**-0.5
        weights = self.node("Identity", [self.node("Constant", [], value=numpy_helper.from_array(values))])
        return self.widened(self.product(weights, width), width)

    def batched(self, width: int) -> str:
        """Weights for each of two heads, the mean of which goes on."""
        split = self.node("Reshape", [self.last, self.whole(0, 1, TOKENS, self.width)])
        self.expect(2 * self.width * width, int4=False)
        heads = self.node("MatMul", [split, self.constant(2, self.width, width)])
        return self.widened(self.node("ReduceMean", [heads], axes=[1], keepdims=0), width)

    def unit(self, width: int) -> str:
        """Three dimensions, of which the first is one."""
        return self.widened(self.product(self.constant(1, self.width, width), width), width)

    def gemm(self, width: int) -> str:
        flat = self.node("Reshape", [self.last, self.whole(-1, self.width)])
        turned, given_turned = self.draw.random() < 0.5, self.draw.random() < 0.3
        if given_turned:
            flat = self.node("Transpose", [flat], perm=[1, 0])
        weights = self.constant(width, self.width) if turned else self.constant(self.width, width)
        bias = [self.constant(width)] if self.draw.random() < 0.7 else []
        if bias and self.draw.random() < 0.4:  # one that is no constant
            bias = [self.node("Transpose", [self.node("ReduceMean", [flat], keepdims=1)], perm=[1, 0])]
        self.expect(self.width * width)
        alpha, beta = self.draw.choice([1.0, 0.5]), self.draw.choice([0.0, 1.0, -2.0])
        out = self.node(
            "Gemm", [flat, weights, *bias], alpha=alpha, beta=beta, transA=int(given_turned), transB=int(turned)
        )
        return self.widened(self.node("Reshape", [out, self.whole(-1, TOKENS, width)]), width)

    def branches(self, width: int) -> str:
        """One with weights of its own, one with weights from outside behind a transpose."""
        total = self.node("ReduceSum", [self.last], keepdims=0)
        positive = self.node("Greater", [total, self.constant()])
        bodies = []
        for own in (True, False):
            nodes: list[NodeProto] = []
            if own:
                values = self.numbers.normal(size=(self.width, width)).astype(np.float32) * self.width**-0.5
                weights = self.node("Constant", [], nodes, value=numpy_helper.from_array(values))
            else:
                weights = self.node("Transpose", [self.constant(width, self.width)], nodes, perm=[1, 0])
            out = self.product(weights, width, nodes)
            given = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", TOKENS, width])
            bodies.append(helper.make_graph(nodes, "branch", [], [given]))
        out = self.node("If", [positive], then_branch=bodies[0], else_branch=bodies[1])
        return self.widened(out, width)

    def loop(self, width: int) -> str:
        """Twice the same weights; the width stays."""
        nodes: list[NodeProto] = []
        out = self.node(
            "Tanh", [self.product(self.constant(self.width, self.width), self.width, nodes, of="state")], nodes
        )
        going = self.node("Identity", ["going"], nodes)
        state: list[str | int | None] = ["n", TOKENS, self.width]
        inputs = [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, state),
        ]
        outputs = [
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            helper.make_tensor_value_info(out, TensorProto.FLOAT, state),
        ]
        body = helper.make_graph(nodes, "body", inputs, outputs)
        self.constants[f"trips{self.count}"] = np.array(2)
        out = self.node("Loop", [f"trips{self.count}", "", self.last], body=body)
        return self.node("Reshape", [out, self.whole(-1, TOKENS, self.width)])

    def left(self, width: int) -> str:
        """The weights first: they mix tokens."""
        self.expect(TOKENS * TOKENS, int8=False, int4=False)
        return self.node("MatMul", [self.constant(TOKENS, TOKENS), self.last])

    def twice(self, width: int) -> str:
        """Two products with the same weights, each behind a transpose of its own."""
        weights = self.constant(self.width, self.width)
        for _ in range(2):
            turned = self.node("Transpose", [weights], perm=[1, 0])
            self.last = self.node("Tanh", [self.product(turned, self.width)])
        return self.last

    def tied(self, width: int) -> str:
        """Weights that a product reads transposed, and a sum as they are."""
        shared = self.constant(TOKENS, self.width)
        added = self.node("Add", [self.last, shared])
        self.expect(TOKENS * self.width, int8=False, int4=False)
        return self.widened(self.node("MatMul", [added, self.node("Transpose", [shared], perm=[1, 0])]), TOKENS)
