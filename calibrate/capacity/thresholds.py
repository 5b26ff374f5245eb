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

# how sure a rate is

DRAWS = 32
"""Draws of parameters, requests and server error: an 80% band then leaves three on either side."""

BAND = 0.8
"""Share of the draws inside the band that is told."""

DRAW_SHARE = 2 / 3
"""Share of the requests of the rate itself that a draw has: its chance is part of the band."""

DRAW_STEP = 1.1
"""Factor between the rate of the fit and the first rate tried for a draw, whose parameters are near."""

DRAW_TOLERANCE = 0.02
"""Relative gap at which the search of a draw ends: bands are tens of percent wide."""

UNTUNED_ITL, UNTUNED_TTFT = 0.25, 0.5
"""Mean errors on servers of parameters that no server tuned: those of docs/accuracy.md, H100, nothing tuned."""

SURE = 0.9
"""Share of the draws in which one candidate must be cheaper than another to be told apart, or meet the objective."""

# what is drawn and carried

CURVE = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
"""Shares of the largest rate at which latencies are told: they bend near it."""

PEAK_WINDOW_S = 60.0
"""A trace's busiest minute is what replicas must carry: a server settles within it, and no scaler is faster."""

TIED = 0.02
"""Relative difference of rates, draw by draw, below which two limits bind alike: searches end no nearer."""
