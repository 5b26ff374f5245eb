"""Damages good files in the ways they come damaged, and holds every reader to an answer: read, or refused in words.

``samples`` and ``run_samples`` have the good files, ``mutations`` the accidents by the kind of a file, ``readers`` and
``commands`` what reads them, ``case`` one accident and what came of it, ``workers`` many of them on all cores, and
``tally`` what they came to.
"""
