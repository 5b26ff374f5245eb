"""Scale factors between the units of configuration files and those of the formulas."""

BYTES_PER_GIB = 2.0**30

DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
    "mxfp4": 0.53125,  # 4 bits and one 8-bit scale for every 32 weights (OCP Microscaling v1.0)
}
"""Bytes per weight of each weight type that campaigns and model descriptions may name."""
