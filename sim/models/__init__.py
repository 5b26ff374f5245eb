"""The latency models: a folder each, and the registry that names them.

In: a table of steps and a GPU's values. Out: durations, and their derivatives by each parameter.
Uses: database and below.
"""
