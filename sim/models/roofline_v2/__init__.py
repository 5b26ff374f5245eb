"""roofline-v2: MFUs from a database's nearest entries."""
