"""From where on the figures of a client's result are doubted, and what an engine has room for, each with its reason."""

STUCK = 0.5
"""Share of the output tokens that must stand in the text: tokenising it anew moves a count by a fifth at most."""

CHUNK = 2.0
"""ITL over TPOT from which a chunk holds several tokens, or tokens were counted that never came; else it is 1."""

ROUNDING = 0.01
"""Share by which an end-to-end time may fall short of the time to first token: of one token the two are the same."""

AS_ASKED = 0.10
"""A mean length this near to that of the asked distribution: lengths were drawn from it, and kept."""

MEMORY_SHARE = 0.9
"""Of a GPU's memory, for weights and cache: vLLM's default."""
