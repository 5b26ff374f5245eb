"use strict";
// The scatter plot: steps along two chosen axes, and the one step that is looked at.
const Chart = (() => {
  const { columns, all, AXES, text, number, label, error, milliseconds, percent, time, byName } = Steps;
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c"];
  const MARKERS = { prefill: "circle", decode: "triangle", mixed: "square" };
  const TOOLS = "box_select,tap,box_zoom,pan,wheel_zoom,reset,save";
  const NARROW_PIXELS = 640; // there is no room for a tooltip, and dragging scrolls the page: the card below serves
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Colour by name of what `field` tells apart.
  function colours(field) {
    const names = [...new Set(all.map((row) => label(field, row)))].sort(byName);
    const phases = { prefill: style("--prefill"), decode: style("--decode"), mixed: style("--mixed") };
    return new Map(names.map((name, i) => [name, (field === "phase" && phases[name]) || PALETTE[i % PALETTE.length]]));
  }

  // A count of zero has no place on a logarithmic axis: it stands left of the smallest.
  function places(axis, rows) {
    if (!axis.log) return rows.map(axis.value);
    const smallest = Math.min(...all.map(axis.value).filter((value) => value > 0));
    return rows.map(axis.value).map((value) => (value > 0 ? value : value === 0 ? smallest / 4 : NaN));
  }

  function points(view, rows) {
    const colour = colours(view.colour);
    return {
      row: rows,
      x: places(AXES[view.x], rows),
      y: places(AXES[view.y], rows),
      colour: rows.map((row) => colour.get(label(view.colour, row))),
      marker: rows.map((row) => MARKERS[text("phase", row)] ?? "circle"),
      what: rows.map((row) => `${text("model", row).slice(0, 60)} · TP ${columns.tp[row]} · ${text("phase", row)}`),
      times: rows.map((row) => `${time(milliseconds("measured_us")(row))} ms measured, ${time(milliseconds("after_us")(row))} ms predicted (${percent(error("after_us")(row))})`),
    };
  }

  function dress(side, key) {
    side.setv({
      axis_label: AXES[key].label, axis_label_text_color: style("--ink"), axis_label_text_font_style: "normal",
      major_label_text_color: style("--quiet"), axis_line_color: style("--edge"), major_tick_line_color: style("--edge"), minor_tick_line_color: null,
    });
    if (AXES[key].log) side.formatter = new Bokeh.NumeralTickFormatter({ format: "0,0.[000]" });
    if (key === "tp") side.ticker = new Bokeh.FixedTicker({ ticks: [...new Set(columns.tp)] });
  }

  function emptyFigure(view) {
    const [x_axis_type, y_axis_type] = [view.x, view.y].map((key) => (AXES[key].log ? "log" : "linear"));
    const clear = { background_fill_color: null, border_fill_color: null, outline_line_color: null };
    const figure = Bokeh.Plotting.figure({ x_axis_type, y_axis_type, sizing_mode: "stretch_both", tools: TOOLS, toolbar_location: "above", ...clear });
    dress(figure.xaxes[0], view.x);
    dress(figure.yaxes[0], view.y);
    for (const grid of [...figure.xgrids, ...figure.ygrids]) grid.grid_line_color = style("--line");
    figure.toolbar.logo = null;
    figure.toolbar.active_drag = innerWidth <= NARROW_PIXELS ? null : figure.toolbar.tools.find((tool) => tool.type === "BoxSelectTool");
    return figure;
  }

  // The line on which a prediction is right, and around zero error a band of 10%.
  function drawGuides(figure, view) {
    const [x, y] = [AXES[view.x], AXES[view.y]];
    const line = { line_color: style("--quiet"), line_width: 1 };
    if (y.zero) {
      figure.add_layout(new Bokeh.BoxAnnotation({ bottom: -10, top: 10, fill_color: style("--guide"), fill_alpha: 0.35, line_color: null, level: "underlay" }));
      figure.add_layout(new Bokeh.Span({ location: 0, dimension: "width", ...line }));
    }
    if (x.time && y.time) {
      const times = all.flatMap((row) => [x.value(row), y.value(row)]).filter((value) => value > 0);
      const ends = times.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
      figure.line(ends, ends, line);
    }
  }

  // Draws `rows` into `place`, instead of the plot that is there; `pointed` is told the row under the pointer, `selected` those that were selected.
  async function draw(place, view, rows, pointed, selected) {
    const figure = emptyFigure(view);
    const source = new Bokeh.ColumnDataSource({ data: points(view, rows) });
    const ring = new Bokeh.ColumnDataSource({ data: { x: [], y: [] } });
    const band = new Bokeh.ColumnDataSource({ data: { x: [], low: [], high: [] } });
    const [x, y, low, high] = ["x", "y", "low", "high"].map((field) => ({ field }));
    const halo = { line_color: style("--halo"), line_width: 2 };
    drawGuides(figure, view);
    figure.segment(x, low, x, high, { source: band, ...halo });
    const dots = figure.scatter(x, y, {
      source, size: 7, marker: { field: "marker" }, fill_color: { field: "colour" }, fill_alpha: 0.6, line_color: null, nonselection_fill_alpha: 0.12,
    });
    figure.scatter(x, y, { source: ring, size: 13, fill_color: null, ...halo });
    for (const range of [figure.x_range, figure.y_range]) range.renderers = [dots]; // or every ring would move the axes
    const tooltips = innerWidth <= NARROW_PIXELS ? null : [["", "@what"], ["", "@times"]];
    figure.add_tools(new Bokeh.HoverTool({ renderers: [dots], tooltips, limit: 1 }));
    source.inspect.connect(() => source.inspected.indices.slice(0, 1).forEach((index) => pointed(source.data.row[index])));
    source.selected.change.connect(() => selected([...source.selected.indices].map((index) => source.data.row[index])));
    for (const old of [...Bokeh.index.roots]) old.remove();
    Bokeh.documents.length = 0;
    await Bokeh.Plotting.show(figure, place);
    return { view, source, ring, band };
  }

  // Shows other rows in a plot that is there.
  function show({ view, source }, rows) {
    source.selected.indices = [];
    source.data = points(view, rows);
  }

  // Puts a ring around a row, and its 90% band where the plot has an axis for it.
  function encircle({ view, ring, band }, row) {
    const [[x], [y]] = [places(AXES[view.x], [row]), places(AXES[view.y], [row])];
    const along = { predicted: (us) => us / 1e3, error: (us) => (us / number("measured_us", row) - 1) * 100 }[view.y];
    const ends = along ? [along(number("low_us", row)), along(number("high_us", row))] : [];
    ring.data = { x: [x], y: [y] };
    band.data = ends.length && ends.every(Number.isFinite) ? { x: [x], low: [ends[0]], high: [ends[1]] } : { x: [], low: [], high: [] };
  }

  return { colours, draw, show, encircle };
})();
