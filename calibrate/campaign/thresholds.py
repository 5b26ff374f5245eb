"""From where on a row of a campaign is doubted, warned of, or left out; each with its reason."""

# steps and kernels against the peaks of the GPU

SLOW = 300.0
"""Times slower than the roofline and host time together: no step or kernel is, nanoseconds taken as µs are 1000."""

NEARLY_ALL = 0.9
"""Share of slow rows from which the whole table is in another unit: stalled runs are a few among many."""

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

MOST_TB_PER_S = 100.0
"""Bandwidth of memory beyond every GPU's (8 TB/s in 2026): a peak above is in another unit."""

LEAST_TFLOPS, MOST_TFLOPS = 1.0, 1e5
"""Dense 16-bit peaks of every GPU that serves models lie between (65 to 2500 in 2026); the rest is another unit."""

# steps and kernels among themselves

REPLICATE_SPREAD = 0.10
"""Standard deviation of replicates beside their mean: a good prediction errs by as much, so more cannot judge one."""

REPLICATE_FACTOR = 1.5
"""A replicate so many times off the median of its own was disturbed: noise of a sound measurement is far smaller."""

SMALL_DECODE_BATCH = 32
"""Up to this batch a decode is bound by reading weights on every GPU, and shows nothing of mfuDecode."""

FEWEST_BATCHES, WIDE_BATCHES = 5, 8.0
"""Rows, and times between the smallest batch and the largest, from which context must be seen to grow with it."""

FLAT, HALF_SLOPE = 0.1, 0.5
"""Slope of ln(context) over ln(batch) that is as good as none, and (with two standard errors) surely not 1."""

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

SERVING_SLOW = 500.0
"""Times slower than one reading of the weights, and host time: a queue slows tokens a hundredfold, a unit by 1000."""

OTHER_UNIT = 30.0
"""Half way, in the logarithm, to the factor 1000 of another unit: no way of counting parts rate and time so far."""

LITTLE_ROUNDS = 4.0
"""Requests to each place of a closed load from which filling and draining it are a small part of the run."""

HALF_FULL, OVERFULL = 0.5, 1.5
"""Requests to each place of a closed load: uneven lengths keep half of them busy over so many rounds, and a rate
counted in a window that leaves the ends of a run out may seem half as high again."""

# overload

WAITING_MS, WAITING_REQUESTS = 1000.0, 10.0
"""A TTFT above a second while ten requests wait: so long is a queue before one server (M/D/1) that is busy 95%."""

FINISHED, CHANCE = 0.90, 2.0
"""Share of the arrivals that an engine which keeps up finishes, less two standard deviations of n arrivals, 1/√n."""

LONGEST = 2.0
"""Standard deviations of the longest output above the mean: lengths drawn evenly reach 1.7, others pass it seldom."""

FAILED = 0.10
"""Share of failed requests from which the others no longer stand for the load."""

# how much is in memory

IN_MEMORY_ROWS = 100_000
"""Rows of a data set that are loaded whole: as many as a fit takes of any table. Larger ones are fitted in parts."""

SAMPLE_ROWS = 20_000
"""Rows that stand for a larger data set in plots and to find where to look: a mean of them is good to 0.04%."""

LEAST_OF_SLICE = 8
"""Rows of every slice of a piece that are among them: more than FULL_SLICE, so that none goes unseen."""

# what is shown

MOST_MODELS_NAMED = 20
"""Unknown models that are each named with the nearest known name; a list beyond that is a slip in every row."""
