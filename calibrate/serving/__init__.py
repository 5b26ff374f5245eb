"""The fit to serving results: from TTFT, inter-token and end-to-end times to what an engine adds.

In: serving rows and a configuration. Out: tuned parameters, and the errors before, after and held out.
Uses: trust and below.
"""
