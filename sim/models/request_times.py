"""Times around the engine: no step holds them, a server does. Every latency model can have them."""

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
)
