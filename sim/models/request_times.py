"""Times that an engine adds around its steps and in its sampler. Every latency model can have them.

No table of steps or kernels holds them; a server does.
"""

from sim.models.parameter import Parameter

REQUEST_TIMES = (
    Parameter(
        name="apiMicros",
        unit="µs/request",
        lower=0.0,
        upper=1000000.0,
        guide=(1000.0, 20000.0),
        stage="serving",
        meaning="time from a client's request to the engine's seeing it",
        seen_in="time to first token of a server",
        default=0.0,
        is_tuned=True,
    ),
    Parameter(
        name="apiPromptTokenMicros",
        unit="µs/token",
        lower=0.0,
        upper=10000.0,
        guide=(0.1, 10.0),
        stage="serving",
        meaning="the same for each token of the prompt",
        seen_in="time to first token at prompts of several lengths",
        default=0.0,
    ),
    Parameter(
        name="apiOutputTokenMicros",
        unit="µs/token",
        lower=0.0,
        upper=100000.0,
        guide=(1.0, 1000.0),
        stage="serving",
        meaning="time of each output token on its way to the client that nothing hides",
        seen_in="inter-token latency of a server",
        default=0.0,
    ),
    Parameter(
        name="samplerStepMicros",
        unit="µs/step",
        lower=0.0,
        upper=2000.0,
        guide=(50.0, 500.0),
        stage="serving",
        meaning="time of a step in which the sampler sorts logits for top-p or top-k",
        seen_in="inter-token latency of models with and without top-p",
        default=0.0,
    ),
    Parameter(
        name="samplerMicrosPerKLogit",
        unit="µs/1,000 logits",
        lower=0.0,
        upper=0.4,
        guide=(0.05, 0.4),
        stage="serving",
        meaning="the same for each thousand logits of each request: its share of the vocabulary",
        seen_in="inter-token latency of a model with top-p at small and large batches",
        default=0.0,
    ),
)
