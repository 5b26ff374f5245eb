"""What to measure next: candidate steps, and the few of them that teach most.

In: campaigns (or none) and a latency model. Out: a plan, as rows to fill in.
Uses: fitting and below.
"""
