"""A serving engine simulated step by step, with any latency model.

In: requests, an engine's limits. Out: when each request got its tokens.
Uses: models and below.
"""
