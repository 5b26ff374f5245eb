"""Measures this machine's GPU, or CPU, and keeps what it finds as a campaign. PyTorch is imported when called only."""
