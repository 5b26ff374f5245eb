"""Scale factors between the units of files and those of the formulas: times, bytes, and decimal prefixes."""

MS_PER_S, US_PER_S, NS_PER_S = 1e3, 1e6, 1e9
US_PER_MS, NS_PER_US = 1e3, 1e3
S_PER_MIN, S_PER_HOUR = 60.0, 3600.0

BYTES_PER_KIB, BYTES_PER_MIB = 2**10, 2**20
BYTES_PER_GIB = 2.0**30
GB_PER_TB = 1e3

KILO, MEGA, GIGA, TERA = 1e3, 1e6, 1e9, 1e12
"""Decimal prefixes. A rate of tera a second is one of mega a microsecond, giga a second is kilo a microsecond."""

DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4 / 128**2,  # one 32-bit scale for every 128 × 128 weights (DeepSeek-V3)
    "mxfp8": 1.0 + 1 / 32,  # one 8-bit scale for every 32 weights (OCP Microscaling v1.0)
    "int8": 1.0,
    "int4": 0.5 + 2 / 128,  # one 16-bit scale for every 128 weights (GPTQ, AWQ)
    "mxfp4": 0.5 + 1 / 32,  # one 8-bit scale for every 32 weights (OCP Microscaling v1.0)
    "nvfp4": 0.5 + 1 / 16,  # one 8-bit scale for every 16 weights (NVIDIA Model Optimizer)
}
"""Bytes per weight of each weight type that campaigns and model descriptions may name."""
