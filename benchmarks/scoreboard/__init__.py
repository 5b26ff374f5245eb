"""How far off servers are predicted, each data set by each treatment, as `make scoreboard` does: docs/scoreboard.md.

The latency model is roofline-v4 with its defaults: no treatment but the named one has seen anything. Tuned are an
engine's own terms, by the short fit that `calibrate fit` makes, on a draw of 24 runs of each engine.
"""
