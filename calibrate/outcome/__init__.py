"""What a fit says: the content of ``result.json``, its verdict and warnings, comparisons; and evaluations without one.

In: estimates, intervals, errors. Out: results that can be written, read back, compared.
Uses: serving and below.
"""
