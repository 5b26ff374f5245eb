"""roofline-v1: a compute and a memory bound per phase, and additive overheads."""
