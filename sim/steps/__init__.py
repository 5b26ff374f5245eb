"""Engine steps: one batch, or a table of many, reduced to the sums that a roofline reads.

In: requests or columns. Out: moments, and the work that no engine avoids.
Uses: architecture, errors.
"""
