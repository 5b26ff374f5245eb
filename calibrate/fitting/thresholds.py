"""From where on a row stands apart, a parameter is held, an interval is given; each with its reason."""

# how much a row counts

FULL_SLICE = 5
"""Rows from which a slice counts as much as any other, as many as give a spread. A row of a smaller slice counts as
one of five, or a lone row, right or wrong, would weigh as much as hundreds."""

LEVERAGE = 0.5
"""Leverage from which a row says more of its own fit than all others together."""

# which rows stand apart

ISOLATED = 5.0
"""Robust standard deviations that noise does not reach: a row set aside is off by more …"""

FEWEST_TO_DOUBT = 50
"""Rows from which one is set aside beside what other GPUs say: of fewer, each may alone show its parameter."""

FAR_OFF = 1.5
"""… and by this factor: nearer than this no row is set aside, however well the others agree."""

STRUCTURE = 0.3
"""Share of a slice whose rows are set aside at the most: where more of it stands apart, it is the model that is off."""

LISTED = 3.0
"""Robust standard deviations that one row in 370 reaches by chance: a row listed is off by more …"""

LISTED_FACTOR = 1.25
"""… and by this factor: a prediction a fifth too low is still fair."""

MOST_LISTED = 50
"""Rows listed at the most: more is not read, and the table of predictions has all."""

# why a row stands apart

WRONG_UNIT = 1000.0
"""Times too slow or too fast of a time that was taken in ms for µs, or in ns."""

NEAR = 1.2
"""A factor this near to another is that one: half way to the next power of two, which degrees of TP are, is 1.4."""

DISTURBED = 1.2
"""A factor from replicates, from the run or from rows alike that is more than a fair prediction errs."""

EXPLAINED = 0.5
"""Share of what a row is off by that its run, or the rows most like it, must be off by too to explain it."""

FEWEST_ALIKE = 3
"""Replicates of a point, and rows of a run, from which their median is not made by the row in question."""

NEIGHBOURS = 6
"""Rows most like one that speak for the model at its place: the median of fewer rests on one or two."""

# what a fit may move

INERT = 1e-3
"""A parameter is inert if changing it by its own size moves no row by a thousandth, far below any noise."""

INSEPARABLE = 1e-2
"""Two directions closer than this (as a sine) cannot be told apart: a change of one is undone to a hundredth."""

ZERO = 1e-12
"""A singular value this small beside the largest is rounding, and the condition number then infinite."""

# where a fit ended

AT_BEST = 1e-3
"""A start reached the best cost if it came within this share of it: less is where a minimiser stops."""

AGREEING = 0.9
"""Share of starts that must reach the best cost for one start to do for a part of the rows: where fewer do, a part may
have several minima."""

MANY_FREE = 14
"""Free parameters from which parts of the rows are fitted from one start where all agreed: of fewer, several starts
cost little, and roofline-v1's edges can hold up one."""

AT_BOUND = 1e-4
"""A value is at its bound if it is this close, as a share of the range: an interior method never quite reaches one."""

CORRELATED = 0.3
"""Correlation from which it is listed: below, less than a tenth of the variance of one is that of the other."""

# when an interval is given

FEWEST_RUNS = 5
"""Runs from which their spread gives an interval: a spread over fewer says nothing."""

SINGULAR = 1e10
"""Condition number from which an inverse is rounding and not the data."""

# how many rows are fitted

MOST_ROWS = 100_000
"""Rows of a fit: noise of 5% then moves a mean by 0.02%, far less than any model errs, and it takes half a minute."""

MOST_POINTS = 200_000
"""Points of a data set whose replicates are compared over all its files: some megabytes. Of more, within each piece."""

MOST_CLUSTERS = 2_000
"""Runs of a data set that count one by one in an interval: sums of more travel long, and tell its width no better."""

SHARE_OF_SLICES = 0.1
"""Share of the drawn rows that goes to slices evenly: one of forty rows is kept whole among millions of others."""
