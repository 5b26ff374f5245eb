"""Three statements on a fit, each with a light of its own: on more of the same, on what was not seen, on servers."""

from collections.abc import Mapping, Sequence

from calibrate.outcome.result import Metrics, ParameterResult, is_worse
from calibrate.outcome.verdict import Light, Statement
from calibrate.serving.summary import ServingSummary, mean_error
from calibrate.trust.metrics import Errors
from calibrate.trust.thresholds import FAIR, GOOD

SAME, UNSEEN, SERVERS = ("more of the same data", "a model or TP not seen", "servers")
"""What the statements are on, in their order."""

_SHORT = {"ttft": "TTFT", "itl": "ITL", "e2e": "E2E"}
_WHOM = {
    "model": "for a model",
    "tp": "for a TP",
    "campaign": "for a campaign",
    "run": "for a run",
    "folds": "for runs",
}
_ORDER: tuple[Light, ...] = ("good", "fair", "poor")


def rating(error: float) -> Light:
    """The light of a mean error: good up to 10%, fair up to 20%."""
    return "good" if error <= GOOD else "fair" if error <= FAIR else "poor"


def step_statements(
    metrics: Metrics, parameters: Sequence[ParameterResult], *, lacks_term: bool, composed: bool
) -> tuple[Statement, ...]:
    """The statements on a fit to steps, nothing tuned to servers.

    ``lacks_term`` says whether the residuals show that the model lacks one, ``composed`` whether the steps were
    composed of kernels.
    """
    return (
        _on_the_same(metrics, parameters),
        _on_the_unseen(metrics.held_out, lacks_term=lacks_term),
        Statement(SERVERS, "unknown", _NO_SERVER_COMPOSED if composed else _NO_SERVER),
    )


_NO_SERVER = (
    "Not known: no serving result was fitted. Servers add host time, queueing and sampling that single steps do not "
    "show: add serving results to the campaigns."
)
_NO_SERVER_COMPOSED = (
    "Not known, and expect them slower: these steps are composed of kernels, and servers add host time and sampling, "
    "which are in none of them: add serving results to the campaigns."
)


def _on_the_same(metrics: Metrics, parameters: Sequence[ParameterResult]) -> Statement:
    folds = metrics.unseen
    if folds is None:
        error = metrics.after["all"]
        text = f"Not known: nothing was held out. Its own rows are met to {error.mape:.1%}, which flatters."
        return Statement(SAME, "unknown", text)
    error = folds["all"]
    text = f"Steps of other runs are predicted to {error.mape:.1%}, 90% of them within {error.p90_ape:.1%}"
    if is_worse(metrics, parameters):
        before = metrics.before["all"].mape
        return Statement(SAME, "poor", f"{text}: worse than with the start, {before:.1%}.")
    stuck = [p.name for p in parameters if p.status == "at-bound"]
    light = rating(error.mape)
    if not stuck:
        return Statement(SAME, light, f"{text}.")
    return Statement(SAME, worse(light, "fair"), f"{text}; {', '.join(stuck)} at a physical bound.")


def _on_the_unseen(held_out: Mapping[str, Mapping[str, Errors]], *, lacks_term: bool) -> Statement:
    """By the worst that was left out: an unseen one may be as far from the others as that was."""
    left_out = {kind: held_out[kind] for kind in ("model", "tp") if kind in held_out}
    lacks = (
        " The model lacks a term: expect more, the further from what was measured."
        if lacks_term
        else ""
    )
    if not left_out:
        return Statement(UNSEEN, "unknown", f"Not known: no model or TP was left out.{lacks}")
    worst = {kind: worst_of(slices, kind) for kind, slices in left_out.items()}
    said = [
        f"a {kind.replace('tp', 'TP')} left out is predicted to {left_out[kind]['all'].mape:.1%} "
        f"(worst: {label}, {error.mape:.1%})"
        for kind, (label, error) in worst.items()
    ]
    light = rating(max(error.mape for _, error in worst.values()))
    text = f"{'; '.join(said)}.{lacks}"
    return Statement(
        UNSEEN, worse(light, "fair") if lacks_term else light, text[0].upper() + text[1:]
    )


def worst_of(slices: Mapping[str, Errors], kind: str) -> tuple[str, Errors]:
    """The part that was predicted worst when it was left out, and its errors."""
    parts = {name: errors for name, errors in slices.items() if name.startswith(f"{kind}:")}
    name = max(parts, key=lambda part: parts[part].mape)
    return name.replace("tp:", "tp ").removeprefix(f"{kind}:"), parts[name]


def worse(first: Light, second: Light) -> Light:
    """The worse of two lights that are known."""
    return max(first, second, key=_ORDER.index)


def serving_sentence(summary: ServingSummary) -> str:
    """The errors of a fit to serving results, in one sentence."""
    unseen = summary.unseen
    said = ", ".join(
        f"{_SHORT[metric]} {slices['all'].mape:.1%}" for metric, slices in unseen.items()
    )
    whom = next(
        (f"{_WHOM[kind]} the fit has not seen" for kind in summary.held_out),
        "on the rows of the fit",
    )
    return (
        f"Serving is predicted {whom} to {said}; in the mean "
        f"{mean_error(unseen):.1%}, against {mean_error(summary.before):.1%} with nothing tuned."
    )


def serving_statement(summary: ServingSummary) -> Statement:
    """The statement on servers of a fit to serving results."""
    if summary.is_worse:
        light: Light = "poor"
    else:
        light = rating(mean_error(summary.unseen)) if summary.held_out else "unknown"
    return Statement(SERVERS, light, serving_sentence(summary))


NO_STEPS = tuple(
    Statement(name, "unknown", "Not known: no step was fitted.") for name in (SAME, UNSEEN, SERVERS)
)
"""The statements on a fit that serving results alone made, before these are stated on."""


def with_serving(statements: Sequence[Statement], summary: ServingSummary) -> tuple[Statement, ...]:
    """The statements on a fit to steps that went on to serving results."""
    return tuple(serving_statement(summary) if one.name == SERVERS else one for one in statements)


def with_engines(
    statements: Sequence[Statement], engines: Sequence[ServingSummary]
) -> tuple[Statement, ...]:
    """The statements on a fit to steps that went on to a draw of each engine's serving results."""
    stated = _on_engines(engines)
    return tuple(stated if one.name == SERVERS else one for one in statements)


def _on_engines(engines: Sequence[ServingSummary]) -> Statement:
    """By the worst engine: which of them a server runs is for the reader to know."""
    lights: list[Light] = [_light(one) for one in engines]
    said = "; ".join(map(_engine_errors, engines))
    text = (
        f"Mean errors of TTFT, ITL and E2E on runs not seen, by what each engine adds to the steps: {said}. Name the "
        f"engine to use it: --engine.{_only_closed(engines)}"
    )
    return Statement(SERVERS, max(lights, key=_ORDER.index), text)


def _only_closed(engines: Sequence[ServingSummary]) -> str:
    """What is not known of engines whose clients all waited for answers."""
    names = [one.engine for one in engines if one.closed]
    if not names:
        return ""
    whose = "All loads" if len(names) == len(engines) else f"All loads of {', '.join(names)}"
    return (
        f" {whose} were closed: part of the wait behind the burst that they begin with may stand in the engine's "
        "times, and TTFT of open loads (--rate) come out too slow by it."
    )


def _light(summary: ServingSummary) -> Light:
    return "poor" if summary.is_worse else rating(mean_error(summary.unseen))


def _engine_errors(one: ServingSummary) -> str:
    """``vllm 0.12.0 20.7% (nothing added 45.2%; 24 of 90 runs)``."""
    before, unseen = mean_error(one.before), mean_error(one.unseen)
    worse = ", worse: not written" if one.is_worse else ""
    return f"{one.engine} {unseen:.1%} (nothing added {before:.1%}; {one.points} of {one.rows} runs){worse}"
