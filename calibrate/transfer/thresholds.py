"""What a transfer takes for granted; each with its reason."""

SHARED = 0.5
"""Share of what differs between GPUs that those of a group have in common, and of the rest that those of the next
have. Of 0.5 to 0.8 it made the values of five GPUs likeliest (H100, H200, A100, B200, GB200), each held out."""

PRIOR_GPUS = 1.0
"""The guide's range says how far GPUs may differ with the weight of so many GPUs. Of 1 to 3, likewise."""

ROUNDS = 10
"""Times that GPUs are weighed anew: the mean then moves by less than a thousandth of its standard error."""

LARGEST_PCIE_GBPS = 64.0
"""One way on sixteen lanes of PCIe 5: what is faster is another link."""

FEWEST = 2
"""GPUs from which a transfer begins: one alone cannot say how far two differ."""
