"""From where on a load point is simulated so, and a fit to serving results is told so; each with its reason."""

# what is assumed where a row does not say

REQUESTS_PER_CLIENT = 10
"""Requests of each client of a closed load: filling and draining the engine are then a small part of the run."""

REQUESTS = 1000
"""Requests of an open load: a 99th percentile is then set by ten of them."""

AMPLE_TOKENS = 1 << 30
"""Tokens of a KV cache that never fills."""

OUT_OF_STEP = 0.1
"""Spread of outputs beside their mean: clients that all send at once and get one length would stay in step for ever."""

WIDE = 0.4
"""Lengths that spread by more of their mean are lognormal: a normal would often be cut at one token."""

# how much a load point counts

FULL_SWEEP = 5
"""Load points from which a model and TP counts as much as any other: a sweep of five loads shows both of its ends."""

SKEWED = 4.0
"""A 99th percentile so many times the median: a few requests, while an engine compiles or is full, made the mean."""

# how many draws are simulated

SEEDS_TRIED = 8
"""Seeds that show how far chance goes: eight tell a spread to about a quarter."""

CHANCE = 0.015
"""How far a mean over all draws may be off by chance: less is small beside the model's own error."""

ENOUGH_REQUESTS = 1000
"""Requests of a point, in all draws: schedules jump, and fewer leave the cost too rough to descend."""

# the draw that a fit to steps goes on to

DRAWN_ROWS = 24
"""Rows drawn of each engine: the errors on all others are then those of a fit to all of them, within 3 points."""

FEWEST_DRAWN = 4
"""Rows of an engine from which its terms are fitted: three or four terms need as many, of several loads."""

DRAWS = 2
"""Draws of the requests of a row of such a fit: chance is small beside what 24 of 90 rows leave open."""

LENT = 0.5
"""Standard deviation over the value of a term that another GPU's servers of an engine lend: times travel by so much."""

# what is told of a fit

MOST_RUNS = 10
"""Runs that are left out one at a time; of more, a fifth at a time: each part is a fit of its own."""

AS_MEASURED = 0.02
"""A median within this share of the truth is neither fast nor slow, and a factor moved by less is unchanged."""
