"""Measures this machine's GPU or processor into a campaign.

In: a device, sizes. Out: kernel and step tables in the campaign format.
Uses: campaign and below.
"""
