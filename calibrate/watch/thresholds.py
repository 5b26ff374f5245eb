"""How long a reference is learned, from where on a slice has drifted, and what is kept; each with its reason."""

# what is learned first

BASELINE_WINDOWS = 10
"""Windows that a slice's reference is learned from: 200 batches give their spread to 5%, and a level to a tenth of a
batch's noise."""

BATCHES = 20
"""Batches of a window, each one look of the test: steps of one batch may err together, batches hardly do."""

FEWEST_IN_BATCH = 5
"""Steps of a batch at the least, so that one odd step does not make it."""

CLIPPED = 3.0
"""Robust standard deviations beyond which a step counts as one at that distance: pauses last a hundred times as long as
a step."""

SPREAD_SURE = 0.99
"""How sure it must be that batches scatter no more than the test takes them to: the upper end counts."""

LONGEST_RUN = 10
"""Batches, put together, whose spread is looked at: steps that err together over half a window show in it."""

# when a slice has drifted

TOLERANCE = 0.01
"""A change that is none: clocks and temperatures move step times by half a percent in a day, and traffic does too."""

SURE_LEVEL = 3.0
"""Standard errors of what was learned that a change must exceed as well: a reference of few steps is no better."""

FALSE_ALARMS = 0.01
"""The chance of any false alarm in a day, over all slices together."""

STEPS_A_DAY = 10_000_000
"""A day of one slice: steps of 8.6 ms, one after the other."""

BETS = (0.5, 1.0, 2.0, 3.0)
"""Shifts, in standard deviations of a batch, that the test bets on: small ones show late, large ones at once."""

SURPRISE = 4.0
"""Standard deviations that one batch counts at the most: no alarm rests on one or two."""

# what moved

RIVAL = 4.0
"""Rise of the deviance up to which another parameter explains the window as well: 95% of a χ² with one degree."""

SECOND = 12.0
"""Fall of the deviance from which a second parameter moved too: chance does that to one in 2,000."""

MOST_MOVED = 3
"""Parameters that are said to have moved at the most: more are another engine, to be calibrated anew."""

CHANGED = 4.0
"""Standard errors from which a slice without an alarm changed too, beyond the tolerance."""

# traffic

OUTSIDE = 0.1
"""Share of a window's steps outside of what the reference knows from which it is said."""

MARGIN = 1.0
"""Octaves of batch, context or prompt beyond those seen that still count as seen: the model changes little within."""

POINTS = 8
"""Points to measure that are named: half an hour's work."""

# the start

APART = 0.05
"""Difference at the start, from other nodes or the run's own residual, from which it is said: traffic and misfit
together explain less."""

# what is kept

MOST_SLICES = 2000
"""Slices that are judged, each with a tenth of a megabyte, or half of one while it learns; more are counted only."""

MOST_WINDOWS = 400
"""Windows of a slice that are kept: a chart shows no more. Beyond, two become one."""

MOST_ALARMS = 100
"""Alarms that are kept; the newest."""

MOST_CELLS = 2000
"""Shapes outside of the reference that are counted."""
