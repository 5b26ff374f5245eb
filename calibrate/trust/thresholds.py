"""From where on an error is called good, a trend is reported, a parameter is seen; each with its reason."""

# errors

GOOD, FAIR = 0.10, 0.20
"""Mean errors up to which predictions are called good (replicates may spread as much), and fair (twice that)."""

# what the residuals show

SIGNIFICANT = 0.01
"""Probability below which chance is ruled out: a hundredth, since every fit is tested."""

MATERIAL = 0.10
"""ln(predicted/measured) from one end of a trend to the other: less would leave a good fit good."""

FEWEST_REPLICATES = 6
"""Degrees of freedom of replicates in different runs: fewer tell their spread to no better than a third."""

FEWEST_ROWS, FEWEST_VALUES = 20, 4
"""Rows, and distinct values of an axis, from which a trend is more than a few points in a row."""

BEYOND_PARENT = 1.5
"""A trend within one TP or model is reported if it is so much stronger than over all; else it is that one again."""

MOST_TRENDS = 6
"""Trends reported at the most: more is not read."""

RIGHT = 0.005
"""An error that a whole per cent writes as 0%."""

# what the data sees of a parameter

VISIBLE = 0.2
"""∂ln t/∂ln θ of a step worth measuring: a tenth of noise in its time is then half of the value …"""

BARELY_VISIBLE = 0.01
"""… and of the least that is named at all: below, noise hides the parameter."""

MOST_GROUPS, LEAST_SHARE = 3, 0.05
"""Groups of rows named for a parameter, and the share of what is known of it that earns a group its mention."""

FARTHEST = 1e3
"""A side of an interval that is flat up to this many times the value is not bounded by the data."""

# when a figure is too thin to give

FEWEST_OF_PHASE = 20
"""Rows of a phase that set a factor of their own: the 90% quantile of fewer rests on one or two."""

AUTOCORRELATION_TIMES = 50
"""Length of a chain in autocorrelation times: from here on their estimate can be trusted (emcee's documentation)."""
