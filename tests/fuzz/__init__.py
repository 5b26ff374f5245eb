"""Damages good files in the ways they come damaged, and holds every reader to an answer: read, or refused in words.

``samples`` has the good files, ``mutations`` a folder of accidents by the kind of a file, ``readers`` what reads them,
``case`` one accident and what came of it, ``workers`` many of them on all cores, ``findings`` what must not happen.
"""
