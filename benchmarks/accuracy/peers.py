"""What other tools say of their own accuracy, or others of theirs, word for word enough to be looked up."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """A published figure: of what, on what data, where it stands, and since when, as far as that is said."""

    tool: str
    figure: str
    measure: str
    data: str
    by: str
    address: str
    date: str


_BLIS = "https://github.com/inference-sim/inference-sim/blob/2968ed1925563209abe08584b3aaad5b3597d05f/docs/blog/posts"
_SHOWDOWN = "https://github.com/inference-sim/inference-sim/blob/0632ebb7f204cdec6bafc79569839efc27a05eb3/docs/blog/posts"

PEERS = (
    Published(
        "BLIS, trained-roofline",
        "7%",
        "mean error of the GPU's combined step time",
        "the test split of vLLM requests to four models",
        "its authors",
        "https://github.com/inference-sim/inference-sim/pull/616",
        "2026-03-11",
    ),
    Published(
        "BLIS, trained-physics",
        "E2E 6.7%, TTFT 17.6%, ITL 7.1%",
        "median over experiments of the error of the mean",
        "36 vLLM runs, six models and two of three GPUs not fitted to (H100 5.5%, A100 15.7%, L40S 13.3% E2E)",
        "its authors",
        f"{_BLIS}/how-blis-learns-latency.md",
        "2026-08-07",
    ),
    Published(
        "BLIS, evolved",
        "E2E 11.79%, TTFT 22.81%",
        "mean error",
        "vLLM runs of six models on H100 and A100, 36 that another tool can run too",
        "its authors",
        f"{_SHOWDOWN}/inference-simulator-showdown.md",
        "2026",
    ),
    Published(
        "Vidur",
        "below 9%",
        "error of inference latency, “across the range”",
        "several models, operators profiled on the same GPUs",
        "its authors, MLSys 2024",
        "https://microsoft.com/en-us/research/publication/vidur-a-large-scale-simulation-framework-for-llm-inference",
        "2024-05",
    ),
    Published(
        "Vidur",
        "E2E 619%",
        "median over experiments of the error of the mean",
        "4 vLLM runs of CodeLlama-34B and Llama-2-70B on H100",
        "BLIS's authors",
        f"{_SHOWDOWN}/inference-simulator-showdown.md",
        "2026",
    ),
    Published(
        "LLMServingSim 2.0",
        "0.97%",
        "average error of performance, memory and power",
        "real deployments, operators profiled on the same hardware",
        "its authors",
        "https://arxiv.org/abs/2602.23036",
        "2026-02",
    ),
    Published(
        "LLMServingSim 2.0",
        "TTFT 0.7–2.9%, TPOT 0.3–0.6%, E2E 0.4–1.0%",
        "error of a run's mean",
        "three vLLM runs of 300 requests, layers profiled on the same GPU",
        "its authors",
        "https://llmservingsim.ai/docs/validation",
        "read 2026-11",
    ),
    Published(
        "LLMServingSim",
        "E2E 76%",
        "error of the mean",
        "one vLLM run of Mixtral-8x7B at TP 4",
        "BLIS's authors",
        f"{_SHOWDOWN}/inference-simulator-showdown.md",
        "2026",
    ),
    Published(
        "APEX",
        "10.7%",
        "average relative error",
        "several models, traces and clusters, operations profiled",
        "a summary of the paper",
        "https://www.sciencestack.ai/paper/2411.17651",
        "2024-11",
    ),
    Published(
        "GenZ",
        "5.82%",
        "geometric mean of errors",
        "several real platforms",
        "a summary of the paper",
        "https://www.sciencestack.ai/paper/2406.01698",
        "2024-06",
    ),
    Published(
        "AIConfigurator",
        "TTFT around 45%",
        "mean error",
        "vLLM on four A100-SXM, random prompts",
        "a user",
        "https://github.com/ai-dynamo/aiconfigurator/issues/1205",
        "2026-06-05",
    ),
    Published(
        "InferSim",
        "prefill 5–15%, decode 4–15%",
        "error of throughput, from its table of three runs",
        "DeepSeek-V3 on H800, two Qwen3 models on H20",
        "its authors",
        "https://github.com/alibaba/infersim",
        "read 2026-11",
    ),
)
