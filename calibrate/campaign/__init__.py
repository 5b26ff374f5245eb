"""Measured rows, judged for what they are: units, physics, duplicates, overload.

In: the folders of ``ground_truth/``. Out: campaigns with their good rows, and every problem of the others.
Uses: records, sim.
"""
