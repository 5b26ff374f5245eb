"""What everything is written in: errors, columns, cells, intervals, and files that no accident damages.

In: files and values. Out: tables with every bad cell named, and text written whole.
Uses: sim.
"""
