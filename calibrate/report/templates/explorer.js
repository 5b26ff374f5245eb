"use strict";
// The explorer: a scatter plot, filters, a card for one step and a table of the worst, all on the same rows.
(() => {
  const { page, columns, all, AXES, COLOURS, FILTERS, COLUMNS, text, number, label, error, milliseconds, named, band, percent, time, count, short, byName } = Steps;
  const element = (id) => document.getElementById(id);
  const state = { x: "measured", y: "error", colour: "phase", filter: {}, sort: 0, down: true, shown: page.worst, picked: [], chosen: null };
  const filtered = () => all.filter((row) => FILTERS.every((field) => !state.filter[field] || label(field, row) === state.filter[field]));

  // Text enters the document as text only.
  function make(tag, content, properties = {}) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...[content].flat());
    return made;
  }
  // A name may run from right to left: it must not turn around what follows it.
  const isolated = (name, rest = "") => [make("bdi", name), rest];

  // -- the plot ----------------------------------------------------------------------------------------------------------

  let chart = null;

  async function draw() {
    document.documentElement.dataset.explorer = "drawing";
    state.picked = [];
    legend();
    chart = await Chart.draw(element("chart"), { x: state.x, y: state.y, colour: state.colour }, filtered(), choose, pick);
    if (state.chosen !== null) Chart.encircle(chart, state.chosen);
    fillTable();
    tally();
    document.documentElement.dataset.explorer = "ready";
  }

  function pick(rows) {
    state.picked = rows;
    state.shown = page.worst;
    if (rows.length === 1) choose(rows[0]);
    fillTable();
    tally();
  }

  function legend() {
    const items = [...Chart.colours(state.colour)].map(([name, colour]) => {
      const swatch = make("i", "");
      swatch.style.background = colour;
      return make("li", [swatch, ...isolated(state.colour === "tp" ? `TP ${name}` : name)]);
    });
    element("legend").replaceChildren(...items);
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
      make("div", [`${text("phase", row)} · `, ...isolated(...named(row))], { className: "quiet" }),
      make("div", percent(error("after_us")(row)), { className: "big" }),
      make("dl", facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)])),
    );
    Chart.encircle(chart, row);
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
        const content = column.named ? isolated(...column.named(row)) : column.write(row);
        return make("td", i ? content : make("b", content), { className: column.number ? "num" : column.named ? "data row" : "" });
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
    Chart.show(chart, filtered());
    for (const field of FILTERS) element(`filter-${field}`).value = state.filter[field] ?? "";
    for (const button of document.querySelectorAll("button.slice")) {
      const { field, value } = button.dataset;
      const chosen = Object.values(state.filter).filter(Boolean).length;
      if (field !== "all") button.setAttribute("aria-pressed", String(chosen === 1 && state.filter[field] === value));
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
      element(`axis-${id}`).addEventListener("change", (event) => { state[id] = event.target.value; draw(); });
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
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  fillSelects();
  makeHead();
  watchTable();
  watchControls();
  draw().then(() => performance.mark("explorer ready"));
})();
