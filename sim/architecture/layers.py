"""Layers of a model that are alike: their attention and their feed-forward part."""

import dataclasses

from sim.architecture.attention import Attention


@dataclasses.dataclass(frozen=True)
class Experts:
    """The mixture-of-experts part of a model.

    ``num_experts`` routed experts of which ``experts_per_token`` serve a token, each an MLP of
    ``intermediate_size``; ``shared_intermediate_size`` is the width of the always-active expert (0: none);
    ``num_dense_layers`` of the layers keep an ordinary MLP instead. ``latent_size`` > 0: routed experts work on so
    many numbers a token, into which the layer projects and back.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    num_dense_layers: int = 0
    latent_size: int = 0


@dataclasses.dataclass(frozen=True)
class LayerGroup:
    """``count`` layers alike: attention or None, an MLP of ``mlp_size`` (0: none), experts or None.

    ``matrices`` is 3 for gated MLPs and 2 for plain ones.
    """

    count: int
    attention: Attention | None
    mlp_size: int = 0
    experts: Experts | None = None
    matrices: int = 3

    def attention_params(self, hidden_size: int) -> float:
        """Weights of the attention of one layer."""
        return self.attention.params(hidden_size) if self.attention else 0.0

    def mlp_params(self, hidden_size: int) -> float:
        """Weights of the ordinary MLP of one layer."""
        return float(self.matrices * hidden_size * self.mlp_size)

    def shared_params(self, hidden_size: int) -> float:
        """Weights of the always-active expert of one layer, and of the projections into and out of a latent."""
        if self.experts is None:
            return 0.0
        shared = self.matrices * hidden_size * self.experts.shared_intermediate_size
        return float(shared + 2 * hidden_size * self.experts.latent_size)

    def expert_params(self, hidden_size: int) -> float:
        """Weights of one routed expert of one layer."""
        if self.experts is None:
            return 0.0
        width = self.experts.latent_size or hidden_size
        return float(self.matrices * width * self.experts.intermediate_size)
