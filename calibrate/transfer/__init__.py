"""What GPUs that were measured say of one that was not: its values with intervals, from its peaks alone.

In: fits of several GPUs with their standard errors, and the new one's peaks. Out: its values, and how well they held.
Uses: fitting, trust and below.
"""
