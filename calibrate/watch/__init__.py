"""Calibration that goes on: whether steps still take what a calibration predicts, and what moved where they do not.

In: a calibration, and logs or tables of steps as they grow. Out: factors by window and slice, alarms, verdicts.
Uses: capacity and below.
"""
