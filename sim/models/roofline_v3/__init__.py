"""roofline-v3: GEMMs, attention, all-reduce and host as terms of their own."""
