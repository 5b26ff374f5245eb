"""How far an estimate can be trusted: errors on what it has not seen, intervals, bands, what the model misses.

In: a solved problem. Out: numbers and sentences about it.
Uses: fitting and below.
"""
