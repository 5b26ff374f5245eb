"""From where on a server counts as settled, a search as done and two candidates as alike; each with its reason."""

# which requests are judged

WARM_UP = 0.2
"""Share of the requests, the first to arrive, that are not judged: they meet an engine that is still filling."""

FEWEST_REQUESTS = 2000
"""Requests of a simulated load: of those judged, sixteen set a 99th percentile."""

MOST_REQUESTS = 20_000
"""Requests of a simulated load at the most: more tell the rate to better than parameters are known."""

FILLINGS = 12
"""Times that the requests in flight pass through a simulated load: the first two are warm-up."""

ALONE = 200
"""Requests, one at a time, that show whether an objective can be met at all."""

# whether the engine keeps up

GROWTH = 0.02
"""Share of the judged requests by which those in flight may grow: an engine that is over its capacity by more falls
behind, however long its queue may still be …"""

DEVIATIONS = 3.0
"""… and so many square roots of their number, by which they come and go by chance."""

# how the rate is searched

FIRST_STEP = 1.25
"""Factor between the first guess and the next rate tried: the closed form is seldom further off."""

LARGEST_STEP = 4.0
"""Factor between two rates tried in the dark."""

TOLERANCE = 0.01
"""Relative gap between a rate that holds and one that does not at which a search ends: chance moves rates by more."""

SLOWEST = 0.01
"""Share of the rate of requests one after another below which no lower rate is tried: there, each is alone."""

MOST_TRIALS = 60
"""Loads that a search simulates at the most; sixty steps of four span every rate there is."""

# what binds

SLOWEST_PERCENTILE = 99.0
"""Requests slower than this one show why a percentile is missed."""

QUEUED = 0.3
"""Share of their time in the queue above which that, and not the steps' length, is what makes them slow."""
