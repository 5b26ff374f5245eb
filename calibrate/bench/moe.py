"""A layer's routed experts: tokens sorted by expert, grouped matrix products, their weighted sum.

The router's choice is made beforehand, uniformly at random: ``active_experts`` says how many of them it met.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from calibrate.bench.device import Device, import_torch, torch_dtype
from calibrate.bench.point import Point, Prepared, scattered
from sim.architecture import Architecture
from sim.units import DTYPE_BYTES


@dataclasses.dataclass(frozen=True)
class MoeShape:
    """Experts of one layer, as one GPU has them."""

    hidden_size: int
    intermediate_size: int
    num_experts: int
    experts_per_token: int

    @property
    def weights(self) -> int:
        """Gate, up and down of all experts."""
        return 3 * self.num_experts * self.hidden_size * self.intermediate_size


@dataclasses.dataclass(frozen=True)
class Routed:
    """``token`` (rows,) of each row, sorted by expert; ``ends`` (experts,) where each expert's rows end; ``weight``
    (rows, 1) of the row in its token's sum.
    """

    token: Any
    ends: Any
    weight: Any

    @property
    def rows_of_expert(self) -> list[int]:
        """Rows of each expert, on the host."""
        ends = self.ends.tolist()
        return [end - start for start, end in itertools.pairwise([0, *ends])]


Product = Callable[[Any, Any], Any]
"""Rows sorted by expert (n, k) and weights (experts, m, k) to (n, m)."""


def moe_shapes(arch: Architecture, tps: Sequence[int]) -> list[MoeShape]:
    """The routed experts of a model, each cut by the degrees that divide it; none for a dense model."""
    experts = arch.experts
    if experts is None:
        return []
    return [
        MoeShape(
            arch.hidden_size,
            experts.intermediate_size // tp,
            experts.num_experts,
            experts.experts_per_token,
        )
        for tp in tps
        if experts.intermediate_size % tp == 0
    ]


def moe_points(
    device: Device, shapes: Sequence[MoeShape], tokens: Sequence[int], dtype: str
) -> list[Point]:
    """Every shape with every number of tokens."""
    grid = scattered(list(itertools.product(dict.fromkeys(shapes), tokens)))
    return [_point(device, shape, count, dtype) for shape, count in grid]


def _point(device: Device, shape: MoeShape, tokens: int, dtype: str) -> Point:
    rows = tokens * shape.experts_per_token
    activations = 2 * tokens * shape.hidden_size
    per_row = 2 * shape.hidden_size + 3 * shape.intermediate_size
    return Point(
        columns={"num_tokens": tokens, **dataclasses.asdict(shape), "dtype": dtype},
        bytes_needed=int(DTYPE_BYTES[dtype] * (shape.weights + activations + rows * per_row)),
        prepare=functools.partial(_prepare, device, shape, tokens, dtype),
    )


def _prepare(device: Device, shape: MoeShape, tokens: int, dtype: str) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    hidden, width = shape.hidden_size, shape.intermediate_size
    x = torch.randn(tokens, hidden, **kind)
    gate_up = torch.randn(shape.num_experts, 2 * width, hidden, **kind)
    down = torch.randn(shape.num_experts, hidden, width, **kind)
    routed = route(torch, shape, tokens, x)
    active = sum(rows > 0 for rows in routed.rows_of_expert)
    name, product = _product(torch, routed, x)
    run = functools.partial(run_experts, torch, product, x, gate_up, down, routed)
    return Prepared(run, {"active_experts": active, "backend": name})


def route(torch: Any, shape: MoeShape, tokens: int, like: Any) -> Routed:
    """Distinct experts of each token, uniform at random, with weights that sum to 1; placed as ``like`` is."""
    scores = torch.rand(tokens, shape.num_experts)
    weight, expert = scores.topk(shape.experts_per_token)
    weight = weight / weight.sum(dim=1, keepdim=True)
    order = expert.flatten().argsort(stable=True)
    counts = expert.flatten().bincount(minlength=shape.num_experts)
    return Routed(
        token=(order // shape.experts_per_token).to(like.device),
        ends=counts.cumsum(0).to(torch.int32).to(like.device),
        weight=weight.flatten()[order][:, None].to(like.dtype).to(like.device),
    )


def run_experts(
    torch: Any, product: Product, x: Any, gate_up: Any, down: Any, routed: Routed
) -> Any:
    """Every token's weighted sum over its experts, (tokens, hidden)."""
    gate, up = product(x[routed.token], gate_up).chunk(2, dim=-1)
    rows = product(torch.nn.functional.silu(gate) * up, down)
    return torch.zeros_like(x).index_add_(0, routed.token, rows * routed.weight)


def _product(torch: Any, routed: Routed, x: Any) -> tuple[str, Product]:
    """PyTorch's grouped product where it has one for this type and device, else an expert at a time."""
    grouped = getattr(torch.nn.functional, "grouped_mm", None) or getattr(
        torch, "_grouped_mm", None
    )
    loop = functools.partial(looped, torch, routed.rows_of_expert)
    if grouped is None:
        return "loop", loop

    def product(rows: Any, weight: Any) -> Any:
        return grouped(rows, weight.transpose(1, 2), offs=routed.ends)

    try:
        product(x[routed.token], x.new_zeros(len(routed.ends), x.shape[1], x.shape[1]))
    except torch.OutOfMemoryError:  # a RuntimeError too, but no word on what the device can do
        raise
    except RuntimeError:
        return "loop", loop
    return "grouped_mm", product


def looped(torch: Any, rows_of_expert: Sequence[int], rows: Any, weight: Any) -> Any:
    """The same, one product an expert that has rows."""
    parts = zip(rows.split(list(rows_of_expert)), weight, strict=True)
    return torch.cat([torch.nn.functional.linear(part, one) for part, one in parts if len(part)])
