"""Files as they come: compressed or not, in any usual encoding, cut off or foreign; what cannot be read is named.

Everything here raises :class:`~calibrate.records.errors.UnreadableError`, with file, line and fix, and nothing else.
"""
