"""roofline-v2-interp: MFUs interpolated in a database."""
