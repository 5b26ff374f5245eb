"use strict";
// The steps that the page holds: their columns, how numbers are written, what can be drawn and what the table shows.
const Steps = (() => {
  const page = JSON.parse(document.getElementById("explorer-data").textContent);
  const columns = page.columns;
  const all = Array.from({ length: page.held }, (_, row) => row);

  // -- rows ----------------------------------------------------------------------------------------------------------

  const text = (name, row) => columns[name].names[columns[name].index[row]];
  const number = (name, row) => columns[name][row] ?? NaN;
  const label = (field, row) => (field === "tp" ? String(columns.tp[row]) : text(field, row));
  const error = (name) => (row) => number(name, row) / number("measured_us", row) - 1;
  const milliseconds = (name) => (row) => number(name, row) / 1e3;
  const pull = (row) => number("weight", row) * number("influence", row);
  const size = (row) => Math.abs(Math.log(number("after_us", row) / number("measured_us", row)));
  const named = (row) => [text("campaign", row), `:${columns.line[row]}`];
  const where = (row) => named(row).join("");

  // -- numbers as the rest of the page writes them ---------------------------------------------------------------------

  const known = (write) => (value) => (Number.isFinite(value) ? write(value) : "–");
  const percent = known((value) => `${value < -0.0005 ? "−" : value >= 0.0005 ? "+" : ""}${(Math.abs(value) * 100).toFixed(Math.abs(value) < 1 ? 1 : 0)}%`);
  const time = known((value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value < 10 ? value.toPrecision(3) : value.toFixed(1)));
  const count = known((value) => value.toLocaleString("en", { maximumFractionDigits: 1 }));
  const short = known((value) => value.toFixed(2));
  const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const band = (row) => (Number.isFinite(number("low_us", row)) ? `${time(milliseconds("low_us")(row))} to ${time(milliseconds("high_us")(row))}` : "–");

  // -- what can be drawn, and what the table shows -----------------------------------------------------------------------

  const AXES = {
    measured: { label: "measured (ms)", value: milliseconds("measured_us"), log: true, time: true },
    predicted: { label: "predicted (ms)", value: milliseconds("after_us"), log: true, time: true },
    before: { label: "predicted before the fit (ms)", value: milliseconds("before_us"), log: true, time: true },
    error: { label: "error after the fit (%)", value: (row) => error("after_us")(row) * 100, zero: true },
    errorBefore: { label: "error before the fit (%)", value: (row) => error("before_us")(row) * 100, zero: true },
    errorHeldOut: { label: "error held out (%)", value: (row) => error("held_out_us")(row) * 100, zero: true },
    batch: { label: "requests", value: (row) => number("batch", row), log: true },
    newTokens: { label: "new tokens", value: (row) => number("new_tokens", row), log: true },
    context: { label: "context tokens per request", value: (row) => number("context_tokens", row), log: true },
    tp: { label: "tensor parallelism", value: (row) => number("tp", row), log: true },
    intensity: { label: "arithmetic intensity (FLOP/byte)", value: (row) => number("flops", row) / number("bytes", row), log: true },
    achieved: { label: "achieved TFLOP/s per GPU", value: (row) => number("flops", row) / number("measured_us", row) / 1e6 / number("tp", row), log: true },
    weight: { label: "weight", value: (row) => number("weight", row), log: true },
    pull: { label: "pull (weight × influence)", value: pull, log: true },
  };
  const COLOURS = { phase: "phase", model: "model", tp: "TP", regime: "limited by" };
  const KINDS = ["layers", "dtype", "ep"].filter((name) => name in columns);
  const FILTERS = ["phase", "model", "tp", "campaign", "regime", ...KINDS];
  const some = (name) => columns[name].some((value) => value !== null);
  // A column writes text, or names what the data names, with what follows the name.
  const COLUMNS = [
    { name: "Error", sort: size, write: (row) => percent(error("after_us")(row)), number: true },
    { name: "Model", sort: (row) => text("model", row), named: (row) => [text("model", row), ""] },
    { name: "TP", sort: (row) => columns.tp[row], write: (row) => count(columns.tp[row]), number: true },
    { name: "Phase", sort: (row) => text("phase", row), write: (row) => text("phase", row) },
    { name: "Requests", sort: (row) => number("batch", row), write: (row) => count(number("batch", row)), number: true },
    { name: "New tokens", sort: (row) => number("new_tokens", row), write: (row) => count(number("new_tokens", row)), number: true },
    { name: "Context", sort: (row) => number("context_tokens", row), write: (row) => count(number("context_tokens", row)), number: true },
    { name: "Measured (ms)", sort: milliseconds("measured_us"), write: (row) => time(milliseconds("measured_us")(row)), number: true },
    { name: "Predicted (ms)", sort: milliseconds("after_us"), write: (row) => time(milliseconds("after_us")(row)), number: true },
    { name: "90% band (ms)", sort: (row) => number("low_us", row), write: band, number: true, shown: some("low_us") },
    { name: "Held out", sort: (row) => Math.abs(error("held_out_us")(row)), write: (row) => percent(error("held_out_us")(row)), number: true, shown: some("held_out_us") },
    { name: "Limited by", sort: (row) => text("regime", row), write: (row) => text("regime", row) },
    { name: "Pull", sort: pull, write: (row) => short(pull(row)), number: true },
    { name: "Campaign:line", sort: where, named },
    { name: "Likely cause", sort: (row) => text("cause", row), write: (row) => text("cause", row) || "–", shown: columns.cause.names.some(Boolean) },
  ].filter((column) => column.shown ?? true);

  return { page, columns, all, AXES, COLOURS, FILTERS, COLUMNS, text, number, label, error, milliseconds, named, band, percent, time, count, short, byName };
})();
