"""From where on a row of a campaign is doubted, warned of, or left out; each with its reason."""

# steps and kernels against the peaks of the GPU

SLOW = 300.0
"""Times slower than the roofline and host time together: no step or kernel is, nanoseconds taken as µs are 1000."""

STEP_HOST_US, KERNEL_HOST_US = 500.0, 20.0
"""Launch and host time in µs of which a short row may well consist."""

CACHED_BYTES = 2.0**28
"""Traffic below this may be served by an L2 cache (40 to 126 MB); more cannot."""

CACHE_SPEED = 8.0
"""Times the bandwidth of memory that an L2 cache has at the most."""

PLAUSIBLE = 0.01
"""Efficiency that a row must reach once corrected, or its unit was not what was wrong."""

SPARSE = 1.5
"""Half way from the dense 16-bit peak to the figure with sparsity or for 8 bits, which is twice that."""

# steps and kernels among themselves

REPLICATE_SPREAD = 0.10
"""Standard deviation of replicates beside their mean: a good prediction errs by as much, so more cannot judge one."""

REPLICATE_FACTOR = 1.5
"""A replicate so many times off the median of its own was disturbed: noise of a sound measurement is far smaller."""

SMALL_DECODE_BATCH = 32
"""Up to this batch a decode is bound by reading weights on every GPU, and shows nothing of mfuDecode."""

ROUNDING = 1e-3
"""Counts of query-key pairs may be off by this share where a client wrote them with few digits."""

# the figures of a serving run

DISAGREEMENT = 0.10
"""Figures that must agree by arithmetic may part so far: they are means over requests of different lengths."""

TWO_TOKENS = (1.8, 2.2)
"""Inter-token latencies to the true ones where a client counted chunks of two tokens: two, but for rounding."""

STOPPED_EARLY = 0.01
"""A run cannot be shorter than its parts; a hundredth is rounding."""

SAME_LATENCY = 1e-3
"""A step and an inter-token latency this near are one figure, written with other digits."""

# overload

WAITING_MS, WAITING_REQUESTS = 1000.0, 10.0
"""A TTFT above a second while ten requests wait: so long is a queue before one server (M/D/1) that is busy 95%."""

FINISHED, CHANCE = 0.90, 2.0
"""Share of the arrivals that an engine which keeps up finishes, less two standard deviations of n arrivals, 1/√n."""

FAILED = 0.10
"""Share of failed requests from which the others no longer stand for the load."""

# what is shown

MOST_MODELS_NAMED = 20
"""Unknown models that are each named with the nearest known name; a list beyond that is a slip in every row."""
