"""Faults on purpose: kills, concurrency and full disks, and what of each is left. ``python -m tests.faults``."""
