"""Tables of measured MFUs: files in, interpolated look-ups out.

In: benchmark databases. Out: the MFU of a shape.
Uses: steps and below.
"""
