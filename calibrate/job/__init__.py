"""One fit from start to files: prior knowledge, solution, intervals, serving, report and configuration.

In: campaigns, a configuration, options. Out: a result, and the files of a run.
Uses: report, outcome and below.
"""
