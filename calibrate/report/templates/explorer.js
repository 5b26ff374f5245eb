"use strict";
// The explorer: a scatter plot, filters, a card for one step and a table of the worst, all on the same rows.
(() => {
  const page = JSON.parse(document.getElementById("explorer-data").textContent);
  const columns = page.columns;
  const all = Array.from({ length: page.held }, (_, row) => row);
  const element = (id) => document.getElementById(id);

  // -- rows ----------------------------------------------------------------------------------------------------------

  const text = (name, row) => columns[name].names[columns[name].index[row]];
  const number = (name, row) => columns[name][row] ?? NaN;
  const label = (field, row) => (field === "tp" ? String(columns.tp[row]) : text(field, row));
  const error = (name) => (row) => number(name, row) / number("measured_us", row) - 1;
  const milliseconds = (name) => (row) => number(name, row) / 1e3;
  const pull = (row) => number("weight", row) * number("influence", row);
  const size = (row) => Math.abs(Math.log(number("after_us", row) / number("measured_us", row)));
  const where = (row) => `${text("campaign", row)}:${columns.line[row]}`;

  // -- numbers as the rest of the page writes them ---------------------------------------------------------------------

  const known = (write) => (value) => (Number.isFinite(value) ? write(value) : "–");
  const percent = known((value) => `${value < -0.0005 ? "−" : value >= 0.0005 ? "+" : ""}${(Math.abs(value) * 100).toFixed(Math.abs(value) < 1 ? 1 : 0)}%`);
  const time = known((value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value < 10 ? value.toPrecision(3) : value.toFixed(1)));
  const count = known((value) => value.toLocaleString("en", { maximumFractionDigits: 1 }));
  const short = known((value) => value.toFixed(2));
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
  const FILTERS = ["phase", "model", "tp", "campaign", "regime"];
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c"];
  const MARKERS = { prefill: "circle", decode: "triangle", mixed: "square" };
  const COLUMNS = [
    { name: "Error", sort: size, write: (row) => percent(error("after_us")(row)), number: true },
    { name: "Model", sort: (row) => text("model", row), write: (row) => text("model", row), data: true },
    { name: "TP", sort: (row) => columns.tp[row], write: (row) => count(columns.tp[row]), number: true },
    { name: "Phase", sort: (row) => text("phase", row), write: (row) => text("phase", row) },
    { name: "Requests", sort: (row) => number("batch", row), write: (row) => count(number("batch", row)), number: true },
    { name: "New tokens", sort: (row) => number("new_tokens", row), write: (row) => count(number("new_tokens", row)), number: true },
    { name: "Context", sort: (row) => number("context_tokens", row), write: (row) => count(number("context_tokens", row)), number: true },
    { name: "Measured (ms)", sort: milliseconds("measured_us"), write: (row) => time(milliseconds("measured_us")(row)), number: true },
    { name: "Predicted (ms)", sort: milliseconds("after_us"), write: (row) => time(milliseconds("after_us")(row)), number: true },
    { name: "90% band (ms)", sort: (row) => number("low_us", row), write: band, number: true },
    { name: "Held out", sort: (row) => Math.abs(error("held_out_us")(row)), write: (row) => percent(error("held_out_us")(row)), number: true },
    { name: "Limited by", sort: (row) => text("regime", row), write: (row) => text("regime", row) },
    { name: "Pull", sort: pull, write: (row) => short(pull(row)), number: true },
    { name: "Campaign:line", sort: where, write: where, data: true },
    { name: "Likely cause", sort: (row) => text("cause", row), write: (row) => text("cause", row) || "–" },
  ];

  const state = { x: "measured", y: "error", colour: "phase", filter: {}, sort: 0, down: true, shown: page.worst, picked: [], chosen: null };
  const filtered = () => all.filter((row) => FILTERS.every((field) => !state.filter[field] || label(field, row) === state.filter[field]));

  // -- small helpers for the document: text only ever enters it as text ----------------------------------------------------

  function make(tag, content, properties = {}) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...[content].flat().filter((part) => part !== undefined));
    return made;
  }
  const isolated = (content) => make("bdi", content);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });

  // -- the plot ----------------------------------------------------------------------------------------------------------

  const chart = { source: null, ring: null, whisker: null, figure: null };

  function groups() {
    const names = [...new Set(all.map((row) => label(state.colour, row)))].sort(byName);
    const fixed = state.colour === "phase" ? { prefill: style("--prefill"), decode: style("--decode"), mixed: style("--mixed") } : {};
    return new Map(names.map((name, i) => [name, fixed[name] ?? PALETTE[i % PALETTE.length]]));
  }

  function places(axis, rows) {
    const values = rows.map(axis.value);
    if (!axis.log) return values;
    const smallest = Math.min(...values.filter((value) => value > 0));
    return values.map((value) => (value > 0 ? value : value === 0 && Number.isFinite(smallest) ? smallest / 4 : NaN));
  }

  function points(rows) {
    const colours = groups();
    return {
      row: rows,
      x: places(AXES[state.x], rows),
      y: places(AXES[state.y], rows),
      colour: rows.map((row) => colours.get(label(state.colour, row))),
      marker: rows.map((row) => MARKERS[text("phase", row)] ?? "circle"),
      what: rows.map((row) => `${text("model", row).slice(0, 60)} · TP ${columns.tp[row]} · ${text("phase", row)}`),
      times: rows.map((row) => `${time(milliseconds("measured_us")(row))} ms measured, ${time(milliseconds("after_us")(row))} ms predicted (${percent(error("after_us")(row))})`),
    };
  }

  function newFigure() {
    const [x, y] = [AXES[state.x], AXES[state.y]];
    const axis = { axis_label_text_color: style("--ink"), axis_label_text_font_style: "normal", axis_line_color: style("--edge"), major_label_text_color: style("--quiet"), major_tick_line_color: style("--edge"), minor_tick_line_color: null };
    const clear = { background_fill_color: null, border_fill_color: null, outline_line_color: null };
    const figure = Bokeh.Plotting.figure({
      x_axis_type: x.log ? "log" : "linear", y_axis_type: y.log ? "log" : "linear", x_axis_label: x.label, y_axis_label: y.label,
      sizing_mode: "stretch_both", tools: "box_select,tap,box_zoom,pan,wheel_zoom,reset,save", toolbar_location: "above", ...clear,
    });
    for (const side of [...figure.xaxis, ...figure.yaxis]) side.setv(axis);
    for (const grid of [...figure.xgrid, ...figure.ygrid]) grid.grid_line_color = style("--line");
    figure.toolbar.logo = null;
    return figure;
  }

  function guides(figure) {
    const [x, y] = [AXES[state.x], AXES[state.y]];
    const line = { line_color: style("--quiet"), line_width: 1 };
    if (y.zero) {
      figure.add_layout(new Bokeh.BoxAnnotation({ bottom: -10, top: 10, fill_color: style("--guide"), fill_alpha: 0.35, line_color: null, level: "underlay" }));
      figure.add_layout(new Bokeh.Span({ location: 0, dimension: "width", ...line }));
    }
    if (x.time && y.time) {
      const times = all.flatMap((row) => [x.value(row), y.value(row)]).filter((value) => value > 0);
      const ends = [Math.min(...times), Math.max(...times)];
      figure.line(ends, ends, line);
    }
  }

  function draw() {
    const figure = newFigure();
    chart.source = new Bokeh.ColumnDataSource({ data: points(filtered()) });
    chart.ring = new Bokeh.ColumnDataSource({ data: { x: [], y: [] } });
    chart.whisker = new Bokeh.ColumnDataSource({ data: { x: [], low: [], high: [] } });
    guides(figure);
    figure.segment({ field: "x" }, { field: "low" }, { field: "x" }, { field: "high" }, { source: chart.whisker, line_color: style("--halo"), line_width: 2 });
    const dots = figure.scatter({ field: "x" }, { field: "y" }, {
      source: chart.source, size: 7, marker: { field: "marker" }, fill_color: { field: "colour" }, line_color: null, fill_alpha: 0.6, nonselection_fill_alpha: 0.12, nonselection_line_alpha: 0,
    });
    figure.scatter({ field: "x" }, { field: "y" }, { source: chart.ring, size: 13, fill_color: null, line_color: style("--halo"), line_width: 2 });
    figure.add_tools(new Bokeh.HoverTool({ renderers: [dots], tooltips: [["", "@what"], ["", "@times"]], limit: 1 }));
    chart.source.inspect.connect(() => {
      const [index] = chart.source.inspected.indices;
      if (index !== undefined) choose(chart.source.data.row[index]);
    });
    chart.source.selected.change.connect(() => {
      state.picked = [...chart.source.selected.indices].map((index) => chart.source.data.row[index]);
      state.shown = page.worst;
      if (state.picked.length === 1) choose(state.picked[0]);
      fillTable();
      tally();
    });
    chart.figure = figure;
    element("chart").replaceChildren();
    legend();
    return Bokeh.Plotting.show(figure, element("chart"));
  }

  function legend() {
    const items = [...groups()].map(([name, colour]) => {
      const swatch = make("i", "");
      swatch.style.background = colour;
      return make("li", [swatch, isolated(state.colour === "tp" ? `TP ${name}` : name)]);
    });
    element("legend").replaceChildren(...items);
  }

  function ring(row) {
    const [x, y] = [places(AXES[state.x], [row])[0], places(AXES[state.y], [row])[0]];
    chart.ring.data = { x: [x], y: [y] };
    const measured = number("measured_us", row);
    const ends = ["low_us", "high_us"].map((name) => (state.y === "predicted" ? number(name, row) / 1e3 : (number(name, row) / measured - 1) * 100));
    const banded = ["predicted", "error"].includes(state.y) && ends.every(Number.isFinite);
    chart.whisker.data = banded ? { x: [x], low: [ends[0]], high: [ends[1]] } : { x: [], low: [], high: [] };
  }

  // -- the card: one step ------------------------------------------------------------------------------------------------

  function choose(row) {
    if (row === state.chosen) return;
    state.chosen = row;
    const facts = [
      ["Measured", `${time(milliseconds("measured_us")(row))} ms`],
      ["Predicted", `${time(milliseconds("after_us")(row))} ms`],
      ["90% band", band(row) === "–" ? "–" : `${band(row)} ms`],
      ["Before the fit", `${time(milliseconds("before_us")(row))} ms`],
      ["Held out", `${time(milliseconds("held_out_us")(row))} ms`],
      ["TP", count(columns.tp[row])],
      ["Requests", count(number("batch", row))],
      ["New tokens", count(number("new_tokens", row))],
      ["Context tokens", count(number("context_tokens", row))],
      ["Limited by", [text("before_regime", row), text("regime", row)].filter((name, i, both) => name && name !== both[i + 1]).join(" → ")],
      ["Weight", short(number("weight", row))],
      ["Influence", short(number("influence", row))],
      ...(text("cause", row) ? [["Likely cause", text("cause", row)]] : []),
    ];
    element("card").replaceChildren(
      make("h4", isolated(text("model", row))),
      make("div", [`${text("phase", row)} · `, isolated(where(row))], { className: "quiet" }),
      make("div", percent(error("after_us")(row)), { className: "big" }),
      make("dl", facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)])),
    );
    ring(row);
    for (const line of element("worst").tBodies[0].rows) line.classList.toggle("chosen", Number(line.dataset.row) === row);
  }

  // -- the table -------------------------------------------------------------------------------------------------------------

  function makeHead() {
    const heads = COLUMNS.map((column, i) => {
      const button = make("button", column.name, { type: "button" });
      button.addEventListener("click", () => {
        state.down = state.sort === i ? !state.down : Boolean(column.number);
        state.sort = i;
        fillTable();
      });
      return make("th", button, { scope: "col", className: column.number ? "num" : "" });
    });
    element("worst").tHead.replaceChildren(make("tr", heads));
  }

  function compare(column) {
    const sign = state.down ? -1 : 1;
    return (a, b) => {
      const [left, right] = [column.sort(a), column.sort(b)];
      if (typeof left === "string") return sign * byName(left, right) || a - b;
      if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right) || a - b;
      return sign * (left - right) || a - b;
    };
  }

  function fillTable() {
    const rows = (state.picked.length ? [...state.picked] : filtered()).sort(compare(COLUMNS[state.sort]));
    const lines = rows.slice(0, state.shown).map((row, place) => {
      const cells = COLUMNS.map((column, i) => {
        const content = column.data ? isolated(column.write(row)) : column.write(row);
        return make("td", i ? content : make("b", content), { className: column.number ? "num" : column.data ? "data row" : "" });
      });
      const line = make("tr", cells, { tabIndex: place ? -1 : 0, className: row === state.chosen ? "chosen" : "" });
      line.dataset.row = row;
      return line;
    });
    element("worst").tBodies[0].replaceChildren(...lines);
    [...element("worst").tHead.rows[0].cells].forEach((cell, i) => {
      if (i === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    element("more").disabled = rows.length <= state.shown;
  }

  function watchTable() {
    const body = element("worst").tBodies[0];
    const chosen = (event) => {
      const line = event.target.closest("tr");
      if (line) choose(Number(line.dataset.row));
    };
    body.addEventListener("mouseover", chosen);
    body.addEventListener("focusin", chosen);
    body.addEventListener("click", chosen);
    body.addEventListener("keydown", (event) => {
      const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const next = step && event.target.closest("tr")?.[step];
      if (!next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    element("more").addEventListener("click", () => { state.shown += page.worst; fillTable(); });
  }

  // -- filters and axes --------------------------------------------------------------------------------------------------------

  function tally() {
    const rows = filtered();
    const errors = rows.map((row) => Math.abs(error("after_us")(row))).filter(Number.isFinite);
    const mean = errors.reduce((sum, value) => sum + value, 0) / errors.length;
    const held = page.held < page.total ? ` held by this page (of ${count(page.total)})` : "";
    const picked = state.picked.length ? ` ${count(state.picked.length)} selected.` : "";
    element("tally").textContent = `${count(rows.length)} of ${count(page.held)} steps${held}, mean error ${percent(mean).replace("+", "")}.${picked}`;
  }

  function apply() {
    state.picked = [];
    state.shown = page.worst;
    chart.source.selected.indices = [];
    chart.source.data = points(filtered());
    for (const field of FILTERS) element(`filter-${field}`).value = state.filter[field] ?? "";
    for (const button of document.querySelectorAll("button.slice")) {
      const { field, value } = button.dataset;
      const chosen = Object.values(state.filter).filter(Boolean).length;
      button.setAttribute("aria-pressed", String(field === "all" ? !chosen : chosen === 1 && state.filter[field] === value));
    }
    fillTable();
    tally();
  }

  function fillSelects() {
    const has = (axis) => all.some((row) => Number.isFinite(axis.value(row)));
    for (const id of ["x", "y"]) {
      const options = Object.entries(AXES).filter(([, axis]) => has(axis)).map(([key, axis]) => new Option(axis.label, key, key === state[id], key === state[id]));
      element(`axis-${id}`).replaceChildren(...options);
    }
    element("axis-colour").replaceChildren(...Object.entries(COLOURS).map(([key, name]) => new Option(name, key)));
    for (const field of FILTERS) {
      const names = [...new Set(all.map((row) => label(field, row)))].sort(byName);
      element(`filter-${field}`).replaceChildren(new Option("all", ""), ...names.map((name) => new Option(name, name)));
    }
  }

  function watchControls() {
    for (const id of ["x", "y", "colour"]) {
      element(`axis-${id}`).addEventListener("change", (event) => { state[id] = event.target.value; redraw(); });
    }
    for (const field of FILTERS) {
      element(`filter-${field}`).addEventListener("change", (event) => { state.filter[field] = event.target.value; apply(); });
    }
    element("clear").addEventListener("click", (event) => { event.preventDefault(); state.filter = {}; apply(); });
    for (const button of document.querySelectorAll("button.slice")) {
      button.addEventListener("click", () => {
        const { field, value } = button.dataset;
        state.filter = field === "all" ? {} : { [field]: value };
        apply();
        element("explorer").scrollIntoView();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  async function redraw() {
    state.picked = [];
    await draw();
    if (state.chosen !== null) ring(state.chosen);
    fillTable();
    tally();
  }

  fillSelects();
  makeHead();
  watchTable();
  watchControls();
  draw().then(() => {
    apply();
    document.documentElement.dataset.explorer = "ready";
    performance.mark("explorer ready");
  });
})();
