"""How a server draws the next token from a model's logits."""

import dataclasses

from sim.errors import ArchitectureError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which tokens may be drawn: the likeliest of together ``top_p``, and of them ``top_k`` (0: any number).

    Raises ArchitectureError for a share or number that is none.
    """

    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        """Refuse what no sampler takes."""
        if not 0 < self.top_p <= 1:
            raise ArchitectureError(f"top_p must be above 0 and at most 1, got {self.top_p:g}")
        if not self.top_k >= 0:
            raise ArchitectureError(f"top_k must be 0 (any number) or more, got {self.top_k:g}")

    def changed(self, top_p: float | None = None, top_k: int | None = None) -> "Sampling":
        """The same with what a client asks for. Raises ArchitectureError for what no sampler takes."""
        return Sampling(
            self.top_p if top_p is None else top_p, self.top_k if top_k is None else top_k
        )

    @property
    def sorts(self) -> bool:
        """Whether the logits of every request are sorted or masked at every step."""
        return self.top_p < 1 or self.top_k > 0


ALL_TOKENS = Sampling()
"""Nothing is cut off: what greedy decoding needs, too."""
