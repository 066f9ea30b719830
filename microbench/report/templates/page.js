// The page without this script has every number; with it the roofline can be used, tables sort, and samples show.
"use strict";
(() => {
const DATA = JSON.parse(document.getElementById("chart-data").textContent);
const NEAR_TO_FAR = ["shared", "L1", "L2", "L3", "DRAM", "host", "peer"];
const chart = document.getElementById("chart");
const dialog = document.getElementById("samples");
const SVG = dialog.querySelector("svg").namespaceURI;

// Text and numbers
const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
function digits(value, count = 4) {
  return Number(value.toPrecision(count)).toString();
}
function si(value, unit, count = 4) {
  const [scale, prefix] = PREFIXES.find(([scale]) => Math.abs(value) >= scale * 0.99995) || [1, ""];
  return `${digits(value / scale, count)} ${prefix}${unit}`.trim();
}
// What a cell says, as a number: "207.3 GFLOP/s", "32 KiB", "98 %", "1.2 ns"; not a number: NaN.
function amount(text) {
  const found = /^\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*([EPTGMkKmµn]i?)?/.exec(text);
  if (!found) return NaN;
  const binary = { Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3, Ti: 1024 ** 4 };
  const scale = binary[found[2]] || (PREFIXES.find(([, prefix]) => prefix === found[2]) || [1])[0];
  return Number(found[1]) * scale;
}

function make(name, attributes = {}, text = "", space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}
const draw = (name, attributes, text) => make(name, attributes, text, SVG);

// Tables sort by a click on a heading
function sortable(table) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = make("button", { type: "button", class: "sort" }, heading.textContent);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
      const numbers = rows.filter(([text]) => !Number.isNaN(amount(text))).length > rows.length / 2;
      rows.sort(([a], [b]) => {
        if (!numbers) return down ? b.localeCompare(a) : a.localeCompare(b);
        const [x, y] = [amount(a), amount(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// The chart
const shown = { threads: 0, level: new Set(), dtype: new Set(), part: new Set(["points", "fits"]), mode: new Set(["burst", "sustained"]) };
const burst = (mode) => mode !== "sustained";

function box(group, key, label, colour) {
  const made = make("label", { class: "box" });
  const input = make("input", { type: "checkbox", "data-group": group, "data-key": key });
  input.checked = shown[group].has(key);
  input.addEventListener("change", () => {
    if (input.checked) shown[group].add(key); else shown[group].delete(key);
    render();
  });
  made.append(input);
  if (colour) made.append(make("span", { class: "swatch", style: `background: var(--${colour})` }));
  made.append(document.createTextNode(label));
  return made;
}
function boxes(title, made) {
  const set = make("fieldset");
  set.append(make("legend", {}, title), ...made);
  return set;
}
function controls() {
  const held = document.getElementById("chart-controls");
  const select = make("select", { "aria-label": "Threads" });
  for (const [count, text] of DATA.threads) select.append(make("option", { value: count }, text));
  select.value = shown.threads = DATA.threads[DATA.threads.length - 1][0];
  select.addEventListener("change", () => { shown.threads = Number(select.value); render(); });
  const levels = NEAR_TO_FAR.filter((level) => DATA.slopes.some((slope) => slope.level === level));
  const dtypes = Object.keys(DATA.colours).filter((dtype) => DATA.roofs.some((roof) => roof.dtype === dtype));
  const fitted = new Set(DATA.fits.map((fit) => fit.dtype));
  levels.forEach((level) => shown.level.add(level));
  dtypes.filter((dtype) => fitted.has(dtype) || fitted.size === 0).forEach((dtype) => shown.dtype.add(dtype));
  const where = boxes("on", [select]);
  const parts = [box("part", "points", "points"), box("part", "fits", "fitted curves")];
  if (DATA.operators.length) parts.push(box("part", "operators", "operators"));
  const save = make("button", { type: "button", class: "plain" }, "Save PNG");
  save.addEventListener("click", png);
  held.append(
    where,
    boxes("memory", levels.map((level) => box("level", level, level))),
    boxes("formats", dtypes.map((dtype) => box("dtype", dtype, dtype, DATA.colours[dtype]))),
    boxes("lasting", [box("mode", "burst", "burst"), box("mode", "sustained", "sustained")]),
    boxes("show", parts),
    save,
  );
}

function fittedRate(fit, level, intensity) {
  const power = fit.sharpness || 40;
  const [lower, upper] = [Math.log(fit.peak), Math.log(fit.bandwidth[level]) + Math.log(intensity)].sort((a, b) => a - b);
  return Math.exp(lower - Math.log1p(Math.exp(-power * (upper - lower))) / power);
}
const SHAPES = {
  L1: (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  L2: (x, y, r) => `M${x},${y - r}L${x + r},${y + r}L${x - r},${y + r}Z`,
  L3: (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  DRAM: (x, y, r) => `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z`,
};
const symbol = (level, x, y, r) => (SHAPES[level] || SHAPES.L1)(x, y, r);

function visible() {
  const on = (row) => row.threads === shown.threads && shown.mode.has(burst(row.mode) ? "burst" : "sustained");
  const roofs = DATA.roofs.filter((roof) => on(roof) && shown.dtype.has(roof.dtype));
  const slopes = DATA.slopes.filter((slope) => on(slope) && shown.level.has(slope.level) && slope.access === "read");
  const fits = DATA.fits.filter((fit) => on(fit) && shown.dtype.has(fit.dtype));
  const points = shown.part.has("points")
    ? fits.flatMap((fit) => fit.points.filter(([level]) => shown.level.has(level)).map((point) => ({ fit, point })))
    : [];
  const operators = shown.part.has("operators") ? DATA.operators.filter((row) => shown.dtype.has(row.dtype)) : [];
  return { roofs, slopes, fits: shown.part.has("fits") ? fits : [], points, operators };
}

function extent(held) {
  const peaks = held.roofs.map((roof) => roof.rate);
  const slopes = held.slopes.map((slope) => slope.rate);
  const xs = [...held.points.map(({ point }) => point[1]), ...held.operators.map((row) => row.intensity)];
  const ys = [...held.points.map(({ point }) => point[2]), ...held.operators.map((row) => row.rate), ...peaks];
  if (peaks.length && slopes.length) xs.push(Math.max(...peaks) / Math.min(...slopes), Math.min(...peaks) / Math.max(...slopes));
  if (!xs.length) xs.push(0.1, 10);
  let [left, right] = [Math.min(...xs) / 3, Math.max(...xs) * 3];
  if (slopes.length) ys.push(Math.min(...slopes) * left);
  if (!ys.length) ys.push(1e9, 1e12);
  return { left, right, bottom: Math.min(...ys) / 1.8, top: Math.max(...ys) * 2 };
}

const note = document.getElementById("chart-note");
function point(at, label, where, klass = "mark") {
  at.setAttribute("class", `${at.getAttribute("class") || ""} ${klass}`);
  at.setAttribute("role", "img");
  at.setAttribute("aria-label", label);
  at.setAttribute("tabindex", "-1");
  const show = () => {
    note.textContent = label;
    note.hidden = false;
    const frame = chart.getBoundingClientRect();
    const [x, y] = where;
    const scale = frame.width / chart.viewBox.baseVal.width;
    note.style.left = `${Math.min(Math.max(x * scale - 110, 0), Math.max(frame.width - 240, 0))}px`;
    note.style.top = `${y * scale + 14}px`;
  };
  at.addEventListener("pointerenter", show);
  at.addEventListener("focus", show);
  at.addEventListener("pointerleave", () => { note.hidden = true; });
  at.addEventListener("blur", () => { note.hidden = true; });
  return at;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); power <= Math.floor(Math.log10(high)); power += 1) found.push(10 ** power);
  return found;
}

function render() {
  const held = visible();
  const { left, right, bottom, top } = extent(held);
  const narrow = window.matchMedia("(max-width: 700px)").matches;
  const [width, height, strip] = narrow ? [480, 420, 70] : [1040, 520, 84];
  const pad = { left: 58, right: narrow ? 12 : 224, top: 14, bottom: 34 };
  const whole = height + (held.points.length ? strip + 22 : 0);
  chart.setAttribute("viewBox", `0 0 ${width} ${whole}`);
  chart.replaceChildren();
  note.hidden = true;
  const x = (value) => pad.left + (Math.log(value / left) / Math.log(right / left)) * (width - pad.left - pad.right);
  const y = (value) => height - pad.bottom - (Math.log(value / bottom) / Math.log(top / bottom)) * (height - pad.top - pad.bottom);
  const [x1, y0] = [width - pad.right, height - pad.bottom];
  const end = held.points.length ? whole - pad.bottom : y0;
  for (const at of decades(left, right)) {
    chart.append(draw("path", { class: "grid", d: `M${x(at)},${pad.top}V${end}` }));
    chart.append(draw("text", { class: "tick", x: x(at), y: end + 16, "text-anchor": "middle" }, digits(at)));
  }
  for (const at of decades(bottom, top)) {
    chart.append(draw("path", { class: "grid", d: `M${pad.left},${y(at)}H${x1}` }));
    chart.append(draw("text", { class: "tick", x: pad.left - 6, y: y(at) + 4, "text-anchor": "end" }, si(at, "", 1)));
  }
  chart.append(draw("text", { class: "axis", x: (pad.left + x1) / 2, y: end + 31, "text-anchor": "middle" }, "Arithmetic intensity, FLOP/byte"));
  chart.append(draw("text", { class: "axis", transform: `translate(12 ${(pad.top + y0) / 2}) rotate(-90)`, "text-anchor": "middle" }, "Rate, FLOP/s or OP/s"));
  const clip = draw("clipPath", { id: "chart-clip" });
  clip.append(draw("rect", { x: pad.left, y: pad.top, width: x1 - pad.left, height: y0 - pad.top }));
  chart.append(clip);
  const inside = draw("g", { "clip-path": "url(#chart-clip)" });
  chart.append(inside);

  const highest = Math.max(...held.roofs.map((roof) => roof.rate), 0) || top;
  const steepest = Math.max(...held.slopes.map((slope) => slope.rate), 0);
  const labels = [];
  const interval = (row) => `${si(row.low, row.per)} to ${si(row.high, row.per)}${row.converged ? "" : ", not settled"}`;
  let before = null;
  for (const slope of [...held.slopes].sort((a, b) => b.rate - a.rate)) {
    const [from, to] = [[left, slope.rate * left], [highest / slope.rate, highest]];
    const line = draw("path", { class: `slope ${burst(slope.mode) ? "" : "lasting"}`, d: `M${x(from[0])},${y(from[1])}L${x(to[0])},${y(to[1])}` });
    const says = `${slope.level} ${slope.access}${burst(slope.mode) ? "" : " sustained"}: ${si(slope.rate, slope.per)} (${interval(slope)})`;
    const middle = Math.sqrt(left * (highest / slope.rate));
    inside.append(point(line, says, [x(middle), y(slope.rate * middle)], ""));
    const turn = (Math.atan2(y(slope.rate * left) - y(slope.rate * left * 10), x(left * 10) - x(left)) * 180) / Math.PI;
    // A label too close below another one begins where that ends.
    const near = before && y(slope.rate) - y(before.rate) < 22;
    const shift = near && !before.shifted;
    const start = left * 1.12 * (right / left) ** (shift ? 0.19 : 0);
    before = { rate: slope.rate, shifted: shift };
    inside.append(draw("text", { class: "slope-label", transform: `translate(${x(start)} ${y(slope.rate * start)}) rotate(${-turn})`, y: burst(slope.mode) ? -4 : 13 },
      `${slope.level}${burst(slope.mode) ? "" : " sustained"} ${si(slope.rate, slope.per, 3)}`));
  }
  for (const roof of held.roofs) {
    const from = Math.max(steepest ? roof.rate / steepest : left, left);
    const colour = DATA.colours[roof.dtype] || "ink";
    const best = !held.roofs.some((other) => other.dtype === roof.dtype && burst(other.mode) && other.rate > roof.rate);
    const line = draw("path", { class: `roof ${best ? "best" : ""} ${burst(roof.mode) ? "" : "lasting"}`, style: `stroke: var(--${colour})`, d: `M${x(from)},${y(roof.rate)}H${x1}` });
    const what = [roof.dtype, roof.unit, roof.mode === "sustained" ? "sustained" : ""].filter(Boolean).join(" ");
    inside.append(point(line, `${what}: ${si(roof.rate, roof.per)} (${interval(roof)})`, [(x(from) + x1) / 2, y(roof.rate)], ""));
    labels.push({ at: y(roof.rate), text: `${what} ${si(roof.rate, roof.per, 3)}${roof.converged ? "" : " ?"}`, colour, best });
  }
  if (narrow) labels.filter((label) => label.best).forEach(({ at, text, colour }) => {
    inside.append(draw("text", { class: "roof-label inside best", style: `fill: var(--${colour})`, x: x1 - 4, y: at - 5, "text-anchor": "end" }, text));
  });
  else spread(labels, 14, pad.top + 6, y0).forEach(({ at, put, text, colour, best }) => {
    chart.append(draw("path", { class: "leader", style: `stroke: var(--${colour})`, d: `M${x1 + 2},${at}L${x1 + 14},${put}` }));
    chart.append(draw("text", { class: `roof-label ${best ? "best" : ""}`, style: `fill: var(--${colour})`, x: x1 + 17, y: put + 4 }, text));
  });
  for (const fit of held.fits) {
    for (const level of Object.keys(fit.bandwidth)) {
      const seen = fit.points.filter(([name]) => name === level).map(([, at]) => at);
      if (!seen.length || !shown.level.has(level)) continue;
      const [low, high] = [Math.max(left, Math.min(...seen) / 1.3), Math.min(right, Math.max(...seen) * 1.3)];
      const steps = Array.from({ length: 49 }, (_, step) => low * (high / low) ** (step / 48));
      const d = steps.map((at, step) => `${step ? "L" : "M"}${x(at).toFixed(1)},${y(fittedRate(fit, level, at)).toFixed(1)}`).join("");
      inside.append(draw("path", { class: `fit ${burst(fit.mode) ? "" : "lasting"}`, style: `stroke: var(--${DATA.colours[fit.dtype] || "ink"})`, d }));
    }
  }
  const longest = Math.max(...held.operators.map((row) => row.seconds), 0);
  for (const row of held.operators) {
    const r = 2 + 9 * Math.sqrt(row.seconds / longest);
    const mark = draw("circle", { class: "operator", cx: x(row.intensity), cy: y(row.rate), r, style: `fill: var(--${DATA.colours[row.dtype] || "ink"})` });
    inside.append(point(mark, `${row.says}, ${row.launch}: ${si(row.seconds, "s")}, ${si(row.rate, "FLOP/s")} at ${digits(row.intensity)} FLOP/byte`, [x(row.intensity), y(row.rate)]));
  }
  const away = held.points.map(({ point: [, , rate, fitted] }) => rate / fitted - 1);
  const reach = Math.min(1, Math.max(0.16, ...away.map((value) => 1.25 * Math.abs(value))));
  const middle = height + 12 + (strip - 12) / 2;
  const beside = (value) => middle - (Math.max(-reach, Math.min(reach, value)) / reach) * (strip / 2 - 8);
  if (held.points.length) {
    chart.append(draw("rect", { class: "tenth", x: pad.left, width: x1 - pad.left, y: beside(0.1), height: beside(-0.1) - beside(0.1) }));
    chart.append(draw("path", { class: "grid", d: `M${pad.left},${middle}H${x1}` }));
    for (const [value, text] of [[0.1, "+10 %"], [0, "fit"], [-0.1, "−10 %"]]) chart.append(draw("text", { class: "tick", x: pad.left - 6, y: beside(value) + 4, "text-anchor": "end" }, text));
  }
  held.points.forEach(({ fit, point: [level, intensity, rate, fitted] }, index) => {
    const colour = DATA.colours[fit.dtype] || "ink";
    const hollow = fit.legacy || !burst(fit.mode);
    const look = hollow ? `fill: var(--paper); stroke: var(--${colour})` : `fill: var(--${colour}); stroke: var(--paper)`;
    const says = `${fit.dtype} ${fit.variant} in ${level}${burst(fit.mode) ? "" : ", sustained"}: ${si(rate, "FLOP/s")} at ${digits(intensity)} FLOP/byte, `
      + `fit ${si(fitted, "FLOP/s")} (${away[index] < 0 ? "−" : "+"}${digits(Math.abs(100 * away[index]), 2)} %)`;
    inside.append(point(draw("path", { style: look, d: symbol(level, x(intensity), y(rate), 5.5) }), says, [x(intensity), y(rate)]));
    chart.append(draw("path", { class: "residual", style: look, d: symbol(level, x(intensity), beside(away[index]), 4) }));
  });
  const first = chart.querySelector(".mark");
  if (first) first.setAttribute("tabindex", "0");
  if (!held.roofs.length && !held.slopes.length) chart.append(draw("text", { class: "axis", x: (pad.left + x1) / 2, y: height / 2, "text-anchor": "middle" }, "Nothing is selected"));
}

// Labels at least a gap apart, as little moved as possible: they go down one after another, then up from the end.
function spread(labels, gap, first, last) {
  const order = [...labels].sort((a, b) => a.at - b.at);
  let free = first;
  for (const label of order) { label.put = Math.max(label.at, free); free = label.put + gap; }
  let above = last;
  for (const label of [...order].reverse()) { label.put = Math.min(label.put, above); above = label.put - gap; }
  return order;
}

// Arrow keys go from point to point
function walk(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const marks = [...chart.querySelectorAll(".mark")];
  const place = marks.indexOf(document.activeElement);
  if (!step || place < 0) return;
  event.preventDefault();
  marks[place].setAttribute("tabindex", "-1");
  const next = marks[(place + step + marks.length) % marks.length];
  next.setAttribute("tabindex", "0");
  next.focus();
}

// The picture as it stands: colours and fonts are written into it, since an image knows no style sheet
function png() {
  const copy = chart.cloneNode(true);
  const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
  const [theirs, ours] = [copy.querySelectorAll("*"), chart.querySelectorAll("*")];
  ours.forEach((element, index) => {
    const style = getComputedStyle(element);
    const kept = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-size", "font-weight", "font-family"];
    theirs[index].setAttribute("style", kept.map((name) => `${name}: ${style.getPropertyValue(name)}`).join("; "));
  });
  copy.setAttribute("width", 2 * width);
  copy.setAttribute("height", 2 * height);
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height });
    const pen = canvas.getContext("2d");
    pen.fillStyle = getComputedStyle(document.getElementById("roofline")).backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0);
    const link = make("a", { download: "roofline.png", href: canvas.toDataURL("image/png") });
    link.click();
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
}

// All samples of a number, on a click
function samples(row) {
  const rounds = DATA.samples[row.dataset.case];
  const per = row.dataset.per;
  const [value, low, high] = [row.dataset.rate, row.dataset.low, row.dataset.high].map(Number);
  const rates = rounds.flatMap(([, seen]) => seen);
  const [width, height, pad] = [640, 240, 60];
  const ends = [Math.min(...rates, low), Math.max(...rates, high)];
  const start = Math.min(...rounds.map(([at]) => at));
  const span = Math.max(...rounds.map(([at]) => at)) - start || 1;
  const x = (at) => pad + ((at - start) / span) * (width - pad - 20);
  const y = (rate) => height - 30 - ((rate - ends[0]) / (ends[1] - ends[0] || 1)) * (height - 50);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${rates.length} samples in ${rounds.length} rounds` });
  picture.append(draw("rect", { class: "tenth", x: pad, width: width - pad - 10, y: y(high), height: Math.max(1, y(low) - y(high)) }));
  picture.append(draw("path", { class: "sample-rate", d: `M${pad},${y(value)}H${width - 10}` }));
  for (const rate of ends) picture.append(draw("text", { class: "tick", x: pad - 6, y: y(rate) + 4, "text-anchor": "end" }, si(rate, "", 4)));
  for (const at of [start, start + span]) picture.append(draw("text", { class: "tick", x: x(at), y: height - 10, "text-anchor": "middle" }, `${digits(at, 3)} s`));
  for (const [at, seen] of rounds) for (const rate of seen) picture.append(draw("circle", { class: "sample", cx: x(at), cy: y(rate), r: 3 }));
  const table = make("table");
  table.append(make("thead"), make("tbody"));
  const heading = make("tr");
  for (const name of ["round", "began", "samples", "best", "median", "slowest"]) heading.append(make("th", { scope: "col" }, name));
  table.tHead.append(heading);
  rounds.forEach(([at, seen], index) => {
    const order = [...seen].sort((a, b) => b - a);
    const line = make("tr");
    const median = order[Math.floor(order.length / 2)];
    for (const text of [index + 1, `${digits(at, 4)} s`, seen.length, si(order[0], per), si(median, per), si(order[order.length - 1], per)]) line.append(make("td", {}, String(text)));
    table.tBodies[0].append(line);
  });
  const held = make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Rounds" });
  held.append(table);
  const close = make("button", { type: "button", class: "plain", autofocus: "" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("h2", {}, row.cells[0].textContent),
    make("p", { class: "note" }, `${si(value, per)}, interval ${si(low, per)} to ${si(high, per)} (shaded); each dot is a sample, at the time its round began. ${row.dataset.case}`),
    picture, held, close,
  );
  dialog.showModal();
}
for (const row of document.querySelectorAll("tr[data-case]")) {
  if (!DATA.samples[row.dataset.case]) continue;
  const cell = row.cells[1].querySelector("b");
  const button = make("button", { type: "button", class: "number", title: "Show all samples" }, cell.textContent);
  button.addEventListener("click", () => samples(row));
  cell.replaceChildren(button);
}

document.querySelectorAll("table").forEach(sortable);
if (chart && DATA.roofs.length && DATA.slopes.length) {
  document.documentElement.classList.add("chart-shown");
  document.getElementById("chart-whole").hidden = false;
  controls();
  chart.addEventListener("keydown", walk);
  render();
  window.matchMedia("(max-width: 700px)").addEventListener("change", render);
}
})();
