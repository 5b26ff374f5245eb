"""From where on a fit is warned of, and kernels speak for or against it; each with its reason."""

# the review of a fit

PARTED = 1.5
"""Held-out error to training error: chance parts them by less, following its rows parts a fit by more."""

MUCH_OFF = 0.10
"""A mean error left out by model, tp or campaign that is no longer good, whatever the training error."""

BIASED, FEWEST_BIASED = 0.10, 5
"""Mean signed error of a slice of so many rows: more than a good fit errs, and all one way, is a term that lacks."""

MOST_SHOWN = 2
"""Rows set aside that a warning lists; the report has all."""

BEYOND_KNEE = 0.4
"""Share of rows that a robust loss plays down: beyond its knee, one σ, lies a third of normal noise; more is misfit."""

STARTS_TO_JUDGE, AGREEING = 8, 0.2
"""Starts from which their agreement says something, and the share of them that should reach the best cost."""

UNMOVED = 1e-3
"""Share of its size by which a value must change to have moved: a fit that starts from a fit ends within it."""

# kernels beside steps

CLEARLY = 4.0
"""A kernel is bound by what takes so many times longer at the peaks than the rest: both fall short of their peaks."""

PROMPT_ROWS = 1024
"""GEMM rows, and tokens of a prompt, from which launch and tail no longer count."""

FEWEST_SIZES = 3
"""Sizes from which a line through them says something: any two have one."""

FEWEST_GROUPS = 5
"""Groups from which a median has a 90% interval: the extremes of five hold it with 94%, of four with 88%."""
