"""How much load meets an objective: the largest rate of a server, what it costs, and how sure that is.

In: a served model, requests, limits of latency, what a fit knows of its parameters. Out: rates, candidates, bands.
Uses: outcome and below.
"""
