"""From rows to an estimate: residuals, what the data can see, the solver, the covariance.

In: campaigns and a latency model. Out: estimates of the free parameters, and why the others are held.
Uses: campaign and below.
"""
