"""What a plan takes for granted, and from where on it says that a parameter is seen; each with its reason."""

# how long a measurement takes

REPEATS, WARM_UP = 20, 3
"""Times that a step is run to be measured, and before that, so that nothing is compiled any more."""

POINT_S = 2.0
"""Seconds to set a point up and to write it down."""

ENGINE_START_S, LOADED_BYTES_PER_S = 60.0, 2e9
"""A server's start, and its weights from a local disk."""

HALVING_S = 14400.0
"""Four hours of measuring are worth a joint interval half as wide."""

# what can be measured

USABLE = 0.9
"""Share of the memory for weights and cache: engines leave the rest to activations and graphs."""

# what is known before

PRIOR_BELOW, PRIOR_ABOVE = 3.0, 5.0
"""Nine values in ten lie between a third of the guide's range and five times it."""

SHARED = 0.5
"""Share of the model's error, squared, that all rows of a slice (phase, model, tp) have in common."""

# what a plan would show

UNSEEN = 0.8
"""A parameter is not seen whose error stays above this share of the prior's: the data then adds next to nothing …"""

LARGEST_HALF_WIDTH = 1.0
"""… or above its own value."""
