"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const DARK = matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = { displayModeBar: false, responsive: true };
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "star", "pentagon", "hexagon"];
  const SIGNS = ["●", "■", "◆", "▲", "★", "⬟", "⬢"]; // the same as text
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const FAINT = 0.08;
  const MANY = 20; // classes; more are chosen from a list
  const drawn = new Set();
  const selections = []; // the selected image of each panel of features: index, method, at
  const chosen = DATA.settings.map((setting) => ({ class: null, method: null, accuracy: null, term: null }));
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- texts and colours --------------------------------------------------------------------

  // Plotly interprets some tags in texts.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text, width = 24) => (text.length <= width ? text : `${text.slice(0, width / 2 - 1)}…${text.slice(1 - width / 2)}`);
  const tick = (text, width) => plain(short(String(text), width));
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shade = () => (DARK.matches ? "dark" : "light");
  // Colours follow the order of methods in the whole report, not in the setting.
  const methodColour = (setting, method) => { const own = DATA.palette[shade()]; return own[DATA.settings[setting].colours[method] % own.length]; };
  // Shifted by one whenever the colours repeat, so that 49 methods differ in colour or symbol.
  const sign = (own, index) => own[(index + Math.floor(index / own.length)) % own.length];
  const methodDash = (setting, method) => DASHES[Math.floor(DATA.settings[setting].colours[method] / DATA.palette.light.length) % DASHES.length];
  const faded = (hex, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${alpha})`;
  const number = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));

  const axis = (more) => ({
    gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"),
    zeroline: false, fixedrange: true, tickfont: { color: css("--muted") }, automargin: true, ...more,
    title: { text: more && more.title ? more.title : "", font: { size: 12, color: css("--muted") }, standoff: 8 },
  });
  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--ink") },
    margin: { l: 48, r: 12, t: 12, b: 40 }, showlegend: false, hovermode: "closest", dragmode: false,
    hoverlabel: { bgcolor: css("--soft"), bordercolor: css("--line"), font: { color: css("--ink") }, align: "left" },
    ...more,
  });

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  // The rows of a heat map; missing values stay empty.
  const matrix = (map) => {
    const flat = bytes(map.data), width = flat.length / map.rows, step = (map.high - map.low) / 254;
    return Array.from({ length: map.rows }, (_, row) =>
      Array.from(flat.subarray(row * width, (row + 1) * width), (byte) => (byte === 255 ? null : map.low + byte * step)));
  };
  const bar = (text) => ({ title: { text, side: "right", font: { size: 11, color: css("--muted") } }, thickness: 10, outlinewidth: 0, tickfont: { color: css("--muted"), size: 10 } });

  // ---- charts: each returns traces, layout and a description, or a text if it is empty -------

  const CHARTS = {
    grid(index, column) {
      const panel = DATA.grids[index][column];
      const at = panel.rows.map((_, row) => row);
      const half = (end) => panel.interval.map((ends, row) => (ends ? Math.abs(ends[end] - panel.mean[row]) : 0));
      const published = panel.published.some((value) => value !== null);
      return [[
        { x: panel.published, y: at, visible: published, mode: "markers", name: "published", marker: { symbol: "line-ns-open", size: 14, line: { width: 3 }, color: css("--muted") },
          hovertemplate: "published %{x:.2f} %<extra></extra>" },
        { x: panel.mean, y: at, mode: "markers", name: "measured", marker: { size: 9, color: css("--accent") },
          error_x: { type: "data", symmetric: false, array: half(1), arrayminus: half(0), color: css("--accent"), thickness: 1.6, width: 4 },
          hovertemplate: "measured %{x:.2f} %<extra></extra>" },
      ], layout({
        height: 78 + 26 * at.length, showlegend: published, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 11 }, itemsizing: "constant" },
        xaxis: axis({ title: "accuracy (%)" }), margin: { l: 48, r: 12, t: 26, b: 40 },
        yaxis: axis({ tickvals: at, ticktext: panel.rows.map((row) => tick(row)), range: [at.length - 0.5, -0.5], showgrid: false }),
      })];
    },

    accuracies(index) {
      const { accuracies, methods } = DATA.settings[index];
      const dots = accuracies.map((each, method) => ({
        x: each.rounds, y: each.rounds.map((_, round) => method + 0.16 + 0.1 * (round % 2)), mode: "markers",
        marker: { size: 6, color: faded(methodColour(index, method), 0.55) },
        text: each.seeds.map((seed) => `${plain(methods[method])}, seed ${seed}`), hovertemplate: "%{text}: %{x:.2f} %<extra></extra>",
      }));
      const means = accuracies.map((each, method) => ({
        x: [each.mean], y: [method - 0.12], mode: "markers", marker: { size: 10, color: methodColour(index, method), symbol: sign(SYMBOLS, DATA.settings[index].colours[method]) },
        error_x: each.interval && { type: "data", symmetric: false, array: [each.interval[1] - each.mean], arrayminus: [each.mean - each.interval[0]], color: methodColour(index, method), thickness: 2, width: 5 },
        text: [plain(methods[method])], hovertemplate: "%{text}: mean %{x:.2f} %<extra></extra>",
      }));
      return [[...dots, ...means], layout({
        height: 70 + 30 * methods.length, xaxis: axis({ title: "accuracy (%)" }),
        yaxis: axis({ tickvals: methods.map((_, method) => method), ticktext: methods.map((name) => tick(name)), range: [methods.length - 0.4, -0.6], showgrid: false }),
      })];
    },

    "curve-accuracy": (index) => curve(index, "accuracy"),
    "curve-term": (index) => curve(index, "term"),

    features(index, method) {
      const { features, classes, class_colours } = DATA.settings[index];
      const panel = features[method];
      if (!panel) return "Not shown: this run kept no test images.";
      const only = chosen[index].class, own = class_colours[shade()];
      const wrong = panel.label.map((label, at) => label !== panel.prediction[at]);
      const hidden = panel.raw ? {} : { showticklabels: false, showgrid: false, automargin: false };
      const present = [...new Set(panel.label)];
      const named = classes.length <= MANY && present.every((label) => classes[label].length <= 4);
      const now = [selected(index, method)].flatMap((own) => (own ? [own.at] : []));
      const middle = (label, of) => median(of.filter((_, at) => panel.label[at] === label));
      return [[
        { x: panel.x, y: panel.y, mode: "markers", hoverinfo: "text",
          text: panel.label.map((_, at) => describe(index, method, at).replace(/\n/g, "<br>")),
          marker: {
            color: panel.label.map((label) => own[label]), symbol: wrong.map((is) => (is ? "x" : "circle")), size: wrong.map((is) => (is ? 9 : 7)),
            opacity: panel.label.map((label) => (only === null || label === only ? 0.85 : FAINT)), line: { width: wrong.map((is) => (is ? 1 : 0)), color: css("--ink") },
          } },
        { x: named ? present.map((label) => middle(label, panel.x)) : [], y: named ? present.map((label) => middle(label, panel.y)) : [], mode: "text", hoverinfo: "skip",
          text: named ? present.map((label) => `<b>${plain(classes[label])}</b>`) : [], textfont: { size: 13, color: css("--ink"), shadow: `0 0 3px ${css("--paper")}, 0 0 3px ${css("--paper")}, 0 0 4px ${css("--paper")}` } },
        { x: now.map((at) => panel.x[at]), y: now.map((at) => panel.y[at]), mode: "markers", hoverinfo: "skip", marker: { size: 17, symbol: "circle-open", color: css("--ink"), line: { width: 2.5 } } },
      ], layout({
        height: 320, margin: { l: panel.raw ? 40 : 6, r: 6, t: 6, b: panel.raw ? 30 : 6 },
        xaxis: axis({ ...hidden, showline: true, mirror: true }), yaxis: axis({ ...hidden, showline: true, mirror: true, scaleanchor: "x" }),
      })];
    },

    channels(index, method) {
      const { channels, classes } = DATA.settings[index];
      const map = channels[method];
      if (!map) return null;
      const maps = channels.filter(Boolean);
      const names = map.classes.map((label) => tick(classes[label], 14));
      const z = matrix(map), few = names.length <= MANY;
      const share = map.channels / z[0].length;
      return [[{
        type: "heatmap", z, zmin: Math.min(...maps.map((each) => each.low)), zmax: Math.max(...maps.map((each) => each.high)), colorscale: "Cividis", hoverongaps: false,
        colorbar: bar("mean attention"), text: z.map((row, at) => row.map(() => names[at])), hovertemplate: "class %{text}: %{z:.3f}<extra></extra>",
      }], layout({
        height: 320, margin: { l: 40, r: 8, t: 8, b: 40 },
        xaxis: axis({ title: `${map.channels} channels, sorted by the class with the highest mean${share > 1 ? "; neighbours averaged" : ""}`, showticklabels: false, showgrid: false, ticks: "" }),
        yaxis: axis({ title: few ? "" : `${classes.length} classes`, tickvals: few ? names.map((_, at) => at) : [], ticktext: few ? names : [], autorange: "reversed", showgrid: false }),
      })];
    },

    distances(index, method) {
      const { distances, channels, classes } = DATA.settings[index];
      const map = distances[method];
      if (!map) return channels[method] ? "There is no distance between classes." : null;
      const starts = map.label.map((label, at) => at).filter((at) => at === 0 || map.label[at] !== map.label[at - 1]);
      const ends = [...starts.slice(1), map.label.length];
      const few = starts.length <= MANY;
      const names = map.label.map((label) => tick(classes[label], 12));
      const ticks = few ? { tickvals: starts.map((at, block) => (at + ends[block] - 1) / 2), ticktext: starts.map((at) => names[at]) } : { tickvals: [], ticktext: [] };
      const z = matrix(map);
      return [[{
        type: "heatmap", z, zmin: map.low, zmax: map.high, colorscale: "Viridis", colorbar: bar("distance / mean between classes"),
        text: z.map((row, at) => row.map((_, to) => `${names[at]} and ${names[to]}`)), hovertemplate: "%{text}: %{z:.2f}<extra></extra>",
      }], layout({
        height: 320, margin: { l: 40, r: 8, t: 8, b: 40 },
        xaxis: axis({ ...ticks, title: few ? "" : `${starts.length} of ${classes.length} classes in label order`, showgrid: false, constrain: "domain" }),
        yaxis: axis({ ...ticks, autorange: "reversed", showgrid: false, scaleanchor: "x", constrain: "domain" }),
        shapes: few ? starts.slice(1).flatMap((at) => {
          const line = { type: "line", line: { color: "rgba(255,255,255,0.6)", width: 0.7 } }, edge = map.label.length - 0.5;
          return [{ ...line, x0: at - 0.5, x1: at - 0.5, y0: -0.5, y1: edge }, { ...line, y0: at - 0.5, y1: at - 0.5, x0: -0.5, x1: edge }];
        }) : [],
      })];
    },

    class_attention(index, method) {
      const { class_attention: all, classes } = DATA.settings[index];
      const found = all[method];
      if (!found) return "Not recorded in these runs.";
      const few = found.classes.length <= MANY;
      const rho = found.rho === null ? "rank correlation not defined" : `mean rank correlation ${number(found.rho)}`;
      return [[{
        x: found.attention, y: found.errors, mode: few ? "markers+text" : "markers", cliponaxis: false,
        text: found.classes.map((label) => tick(classes[label], 14)), textposition: "top center", textfont: { size: 11, color: css("--muted") },
        marker: { size: 8, color: methodColour(index, method), opacity: 0.8 }, hovertemplate: "class %{text}: %{x}, error %{y:.2f} %<extra></extra>",
      }], layout({
        height: 320, margin: { l: 48, r: 12, t: 34, b: 40 }, xaxis: axis({ title: "mean attention" }), yaxis: axis({ title: "error (%)", range: [-0.06, 1.15].map((part) => part * (Math.max(...found.errors) || 1)) }),
        annotations: [{ text: rho, showarrow: false, xref: "paper", yref: "paper", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: 12, color: css("--muted") } }],
      }), rho];
    },

    calibration(index, method) {
      const found = DATA.settings[index].calibration[method];
      if (!found) return null;
      const bins = found.images.length, most = Math.max(...found.images);
      const filled = found.images.map((_, bin) => bin).filter((bin) => found.images[bin]);
      const error = `calibration error ${number(found.error)} %`;
      const middle = (bin) => ((bin + 0.5) * 100) / bins;
      return [[
        { type: "bar", x: filled.map(middle), y: filled.map((bin) => found.accuracy[bin]), width: 100 / bins - 1,
          marker: { color: filled.map((bin) => faded(methodColour(index, method), 0.3 + 0.7 * Math.sqrt(found.images[bin] / most))) },
          customdata: filled.map((bin) => [found.images[bin].toLocaleString("en"), number(found.confidence[bin], 1)]),
          hovertemplate: "%{customdata[0]} images: confidence %{customdata[1]} %, accuracy %{y:.1f} %<extra></extra>" },
        { x: [0, 100], y: [0, 100], mode: "lines", hoverinfo: "skip", line: { dash: "dash", width: 1.5, color: css("--muted") } },
      ], layout({
        height: 260, bargap: 0, margin: { l: 48, r: 12, t: 30, b: 40 }, xaxis: axis({ title: "confidence (%)", range: [0, 100] }), yaxis: axis({ title: "accuracy (%)", range: [0, 102] }),
        annotations: [{ text: error, showarrow: false, xref: "paper", yref: "paper", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: 12, color: css("--muted") } }],
      }), error];
    },

    classes(index) {
      const { by_class: methods, methods: names, classes } = DATA.settings[index];
      if (!methods.some(Boolean)) return "Not recorded in these runs.";
      const few = classes.length <= 30, many = names.length;
      // Few classes are in label order, many start with the hardest of the first method.
      const order = classes.map((_, label) => label);
      const first = methods.find(Boolean).mean;
      if (!few) order.sort((left, right) => (first[left] ?? 101) - (first[right] ?? 101));
      const spread = few ? 0.5 / many : 0;
      return [methods.flatMap((found, method) => (found ? [{
        x: order.map((_, at) => at + spread * (method - (many - 1) / 2)), y: order.map((label) => found.mean[label]), mode: "markers", name: tick(names[method]),
        marker: { size: few ? 8 : 5, color: methodColour(index, method), symbol: sign(SYMBOLS, DATA.settings[index].colours[method]) },
        error_y: few ? { type: "data", symmetric: false, array: order.map((label) => found.high[label] - found.mean[label]), arrayminus: order.map((label) => found.mean[label] - found.low[label]), thickness: 1.4, width: 0, color: methodColour(index, method) } : undefined,
        text: order.map((label) => `class ${plain(classes[label])}, ${plain(names[method])}`), hovertemplate: "%{text}: %{y:.2f} %<extra></extra>",
      }] : [])), layout({
        height: 340, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 48, r: 12, t: 30, b: 40 },
        xaxis: axis({ title: few ? "class" : `${classes.length} classes, the hardest of ${tick(names[methods.findIndex(Boolean)])} first`, tickvals: few ? order : [], ticktext: few ? order.map((label) => tick(classes[label], 12)) : [], range: [-0.7, order.length - 0.3], showgrid: few && classes.length <= 12 }),
        yaxis: axis({ title: "accuracy (%)" }),
      })];
    },
  };

  function curve(index, group) {
    const { curves, methods } = DATA.settings[index];
    const found = curves.find((each) => each.group === group && each.name === chosen[index][group]);
    if (!found) return "Not recorded in these runs.";
    const only = chosen[index].method;
    const last = Math.max(...found.lines.flatMap((line) => (line ? [line.epoch.at(-1)] : [])));
    return [found.lines.flatMap((line, method) => {
      if (!line) return [];
      const colour = methodColour(index, method), on = only === null || only === method;
      return [
        { x: [...line.epoch, ...[...line.epoch].reverse()], y: [...line.high, ...[...line.low].reverse()], fill: "toself", fillcolor: faded(colour, on ? 0.16 : 0.02), line: { width: 0 }, mode: "lines", hoverinfo: "skip" },
        { x: line.epoch, y: line.mean, mode: line.epoch.length > 25 ? "lines" : "lines+markers", opacity: on ? 1 : 0.15, line: { color: colour, width: 2, dash: methodDash(index, method) }, marker: { size: 5, symbol: sign(SYMBOLS, DATA.settings[index].colours[method]) },
          text: line.epoch.map(() => plain(methods[method])), hovertemplate: "%{text}, epoch %{x}: %{y}<extra></extra>" },
      ];
    }), layout({
      height: 320, xaxis: axis({ title: "epoch", dtick: last <= 10 ? 1 : undefined }), margin: { l: 56, r: 12, t: 12, b: 40 },
      yaxis: axis({ title: plain(found.label) + (found.log ? ", log scale" : ""), type: found.log ? "log" : "linear", dtick: found.log ? "D2" : undefined, tickformat: "~g" }),
    }), `${found.label} at the end: ${found.lines.flatMap((line, method) => (line ? [`${methods[method]} ${line.mean.at(-1)}`] : [])).join(", ")}`];
  }

  function median(values) {
    const sorted = [...values].sort((left, right) => left - right);
    return sorted[Math.floor(sorted.length / 2)];
  }

  // The description of a point; escape it for Plotly.
  function words(index, method, at) {
    const { features, classes } = DATA.settings[index], panel = features[method];
    const right = panel.label[at] === panel.prediction[at];
    return [`class ${classes[panel.label[at]]}`, `predicted ${classes[panel.prediction[at]]}${right ? "" : " (error)"}`, `image ${panel.index[at]}`];
  }
  const describe = (index, method, at) => words(index, method, at).map(plain).join("\n");

  // ---- drawing ------------------------------------------------------------------------------

  function draw(element) {
    const { kind, setting, method } = element.dataset;
    const label = (element.dataset.label ??= element.getAttribute("aria-label") ?? "");
    const chart = CHARTS[kind](Number(setting), Number(method));
    if (chart === null || typeof chart === "string") {
      element.textContent = chart || "";
      element.style.minHeight = "0";
      element.classList.add("note");
      element.removeAttribute("role");
    } else {
      Plotly.react(element, chart[0], chart[1], CONFIG);
      element.style.minHeight = `${chart[1].height}px`;
      if (chart[2]) element.setAttribute("aria-label", `${label}: ${chart[2]}`);
      if (kind === "features" && !drawn.has(element)) listen(element);
    }
    drawn.add(element);
  }
  const redraw = (test) => drawn.forEach((element) => test(element.dataset) && draw(element));

  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        observer.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "300px" });

  // ---- selecting the points of a panel ----------------------------------------------

  const selected = (index, method) => selections.find((each) => each.index === index && each.method === method);

  function listen(element) {
    const figure = element.closest("figure");
    const at = ({ points }) => points[0].curveNumber === 0 && show(figure, points[0].pointIndex);
    element.on("plotly_hover", at);
    element.on("plotly_click", at);
  }

  function show(figure, at) {
    const index = Number(figure.dataset.setting), method = Number(figure.dataset.features);
    const panel = DATA.settings[index].features[method];
    const own = selected(index, method);
    if (own) own.at = at;
    else selections.push({ index, method, at });
    figure.querySelector(".description").textContent = words(index, method, at).join("\n");
    paint(figure.querySelector(".thumbnail"), panel.thumbnail[at]);
    const element = figure.querySelector(".plot");
    if (drawn.has(element)) Plotly.restyle(element, { x: [[panel.x[at]]], y: [[panel.y[at]]] }, [2]);
  }

  function paint(tile, where) {
    tile.hidden = !where;
    if (!where) return;
    const sheet = DATA.sheets[where[0]], column = where[1] % sheet.columns, row = Math.floor(where[1] / sheet.columns);
    const scale = Math.max(1, Math.round(64 / Math.max(sheet.height, sheet.width)));
    const px = (value) => `${value * scale}px`;
    Object.assign(tile.style, {
      width: px(sheet.width), height: px(sheet.height), backgroundImage: `url(${sheet.uri})`,
      backgroundSize: `${px(sheet.width * sheet.columns)} ${px(sheet.height * sheet.rows)}`,
      backgroundPosition: `-${px(column * sheet.width)} -${px(row * sheet.height)}`,
    });
  }

  function step(figure, target) {
    const { class: only } = chosen[figure.dataset.setting];
    const panel = DATA.settings[figure.dataset.setting].features[figure.dataset.features];
    const wanted = (at) => (only === null || panel.label[at] === only) && (target !== "error" || panel.label[at] !== panel.prediction[at]);
    const candidates = panel.label.map((_, at) => at).filter(wanted);
    if (!candidates.length) {
      figure.querySelector(".description").textContent = target === "error" ? "No error among these images." : "No image of this class.";
      return;
    }
    const now = selected(Number(figure.dataset.setting), Number(figure.dataset.features))?.at ?? -1;
    const after = candidates.filter((at) => at > now), before = candidates.filter((at) => at < now);
    const next = { 1: after[0] ?? candidates[0], error: after[0] ?? candidates[0], "-1": before.at(-1) ?? candidates.at(-1), first: candidates[0], last: candidates.at(-1) };
    show(figure, next[target]);
  }

  const KEYS = { ArrowRight: "1", ArrowDown: "1", ArrowLeft: "-1", ArrowUp: "-1", Home: "first", End: "last", e: "error", E: "error" };

  for (const figure of all("figure.features")) {
    const panel = DATA.settings[figure.dataset.setting].features[figure.dataset.features];
    figure.querySelector("[data-projection]").textContent = `${panel.label.length} test images, ${panel.projection}.`;
    figure.querySelector(".stepper").addEventListener("keydown", (event) => {
      if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      step(figure, KEYS[event.key]);
    });
    for (const button of all("[data-step]", figure)) button.addEventListener("click", () => step(figure, button.dataset.step));
  }

  // ---- controls -----------------------------------------------------------------------------

  function option(value, text) {
    const element = document.createElement("option");
    element.value = value;
    element.textContent = text;
    return element;
  }

  for (const select of all("select[data-curve]")) {
    const index = Number(select.dataset.setting), group = select.dataset.curve;
    const found = DATA.settings[index].curves.filter((each) => each.group === group);
    if (!found.length) {
      select.hidden = true;
      continue;
    }
    chosen[index][group] = found[0].name;
    select.append(...found.map((each) => option(each.name, each.label)));
    select.addEventListener("change", () => {
      chosen[index][group] = select.value;
      redraw(({ kind, setting }) => kind === `curve-${group}` && Number(setting) === index);
    });
  }

  // Buttons that show one method or class alone, or a list if there are many.
  for (const row of all("[data-chips]")) {
    const index = Number(row.dataset.setting), what = row.dataset.chips, own = DATA.settings[index];
    const names = what === "class" ? own.classes : own.methods;
    const colour = (at) => (what === "class" ? own.class_colours[shade()][at] : methodColour(index, at));
    const kinds = what === "class" ? ["features"] : ["curve-accuracy", "curve-term"];
    const choose = (at) => {
      chosen[index][what] = at;
      all("button", row).forEach((button, to) => button.setAttribute("aria-pressed", String(to === at)));
      redraw(({ kind, setting }) => kinds.includes(kind) && Number(setting) === index);
    };
    if (names.length > MANY) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", row.getAttribute("aria-label"));
      select.append(option("", what === "class" ? `All ${names.length} classes` : `All ${names.length} methods`), ...names.map((name, at) => option(at, name)));
      select.addEventListener("change", () => choose(select.value === "" ? null : Number(select.value)));
      row.append(select);
      continue;
    }
    names.forEach((name, at) => {
      const button = document.createElement("button"), dot = document.createElement("span");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      dot.className = "sign";
      dot.setAttribute("aria-hidden", "true");
      dot.textContent = what === "class" ? SIGNS[0] : sign(SIGNS, own.colours[at]);
      dot.style.color = colour(at);
      DARK.addEventListener("change", () => { dot.style.color = colour(at); });
      button.append(dot, short(name, 32));
      button.title = name;
      button.addEventListener("click", () => choose(chosen[index][what] === at ? null : at));
      row.append(button);
    });
  }

  // A link into a folded setting unfolds it.
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = target && target.querySelector(":scope > details");
    if (details) details.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  DARK.addEventListener("change", () => redraw(() => true));
  all(".plot").forEach((element) => observer.observe(element));
})();
