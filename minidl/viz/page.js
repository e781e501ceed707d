const race = JSON.parse(document.getElementById("race").textContent);
const length = race.steps + 1;
const [[left, right], [bottom, top]] = race.domain;
const LOST = 0xffff; // the code of a number that is not finite
const byId = (id) => document.getElementById(id);

// ---- the runs: codes to numbers ----

const count = race.families.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
const codes = await unpack(race.codes);
let first = 0;
for (const family of race.families) {
  family.first = first; // its first run among all
  first += family.shape[0] * family.shape[1];
}

/** Text to codes: base64, zlib, high bytes before low bytes, and steps summed up, modulo 2¹⁶. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const half = bytes.length / 2;
  const sums = new Uint16Array(half);
  for (let k = 0; k < half; k++) {
    sums[k] = bytes[k] * 256 + bytes[half + k] + (k % length ? sums[k - 1] : 0);
  }
  return sums;
}

/** One of x, y and log f (channel 0, 1, 2) along a run, as shares of its range from 0 to 1, or NaN. */
function shares(channel, run) {
  const from = (channel * count + run) * length;
  return Float64Array.from(codes.subarray(from, from + length), (code) => (code === LOST ? NaN : code / (LOST - 1)));
}

function coordinates(channel, run, [low, high]) {
  const unfold = (share) => (low + high) / 2 + ((high - low) / 2) * Math.sinh(race.reach * (2 * share - 1));
  return shares(channel, run).map(unfold);
}

/** The run of a family with its best setting, or with the one that the sliders show. */
function chosen(family) {
  const [rows, columns] = family.shape;
  const place = (index, among, own) => (among > 1 ? Math.round((index * (own - 1)) / (among - 1)) : 0);
  const [i, j] = state.best
    ? family.best
    : [place(state.rate, race.rates.length, rows), place(state.momentum, race.momenta.length, columns)];
  const at = i * columns + j;
  const run = family.first + at;
  const [low, high] = race.loss;
  const x = coordinates(0, run, race.domain[0]);
  const y = coordinates(1, run, race.domain[1]);
  const log = shares(2, run).map((share) => low + share * (high - low));
  const end = x.findIndex(Number.isNaN);
  return {
    x,
    y,
    log,
    setting: family.settings[at],
    reached: family.reached[at],
    end: end < 0 ? length : end, // the first step without a finite place
    stopped: end > 0 && !family.tunable && log[end - 1] <= log[0], // by its own rule, in no danger of diverging
  };
}

const outside = (run, t) => !(run.x[t] >= left && run.x[t] <= right && run.y[t] >= bottom && run.y[t] <= top);

/** What has become of a run by step t: a word for the machine and some for the reader. */
function fate(run, t) {
  if (t >= run.end && !run.stopped) return ["diverged", `diverged at step ${run.end}`];
  const last = Math.min(t, run.end - 1);
  if (outside(run, last)) {
    let since = last;
    while (since > 0 && outside(run, since - 1)) since--;
    return ["left", `left the picture at step ${since}`];
  }
  if (run.reached >= 0 && t >= run.reached) return ["reached", `minimum at step ${run.reached}`];
  if (t >= run.end) return ["stopped", `goes no further than step ${last}`];
  return ["", ""];
}

function lossText(log) {
  if (Number.isNaN(log)) return "–";
  if (log <= race.loss[0]) return `< 1e${race.loss[0]}`.replace("-", "−");
  const loss = 10 ** log;
  if (log >= -3 && log < 4) return Number(loss.toPrecision(2)).toString();
  return loss.toExponential(1).replace("+", "").replace("-", "−");
}

// ---- the two drawings ----

const surface = drawing(byId("surface"));
const losses = drawing(byId("losses"));
const contours = make("g", {}, surface.back);
for (const [path, fill] of race.contours) make("path", { class: "contour", d: path, fill }, contours);
const minima = race.minima.map(() => make("path", { class: "minimum", d: STAR }, surface.back));
const start = make("circle", { class: "start", r: 6 });

for (const family of race.families) {
  const [color, dashes] = family.look;
  const group = (plot) => make("g", { class: "run", "data-method": family.name }, plot.field);
  const stroke = { stroke: color, "stroke-dasharray": dashes || "none" };
  family.onSurface = group(surface);
  family.halo = make("path", { class: "halo" }, family.onSurface);
  family.path = make("path", { class: "path", ...stroke }, family.onSurface);
  family.dots = make("path", { class: "dots", stroke: color }, family.onSurface);
  family.head = make("path", { class: "head" }, family.onSurface);
  family.onLosses = group(losses);
  family.curve = make("path", { class: "path", ...stroke }, family.onLosses);
}
surface.field.append(start);
const veil = make("rect", { class: "veil", y: 0 }, losses.field);
const now = make("line", { class: "now", y1: 0 }, losses.field);
for (const family of race.families) {
  family.present = make("g", { class: "run" }, losses.field);
  family.point = make("path", { class: "head" }, family.present);
  drawMarker(family.point, family.look);
}

const INSET = 7; // room for the markers at the ends of the axes

// Losses are drawn from a little above the start down to the least loss that any method gets to at its best.
const lossAxis = () => {
  const logs = race.families.flatMap((family) => [...family.atBest.log].filter((log) => !Number.isNaN(log)));
  const atStart = race.families[0].atBest.log[0];
  const low = Math.max(-8, Math.floor(logs.reduce((least, log) => Math.min(least, log), atStart)));
  return [low, Math.max(low, Math.ceil(atStart)) + 1];
};

const toX = (x) => ((x - left) / (right - left)) * surface.width;
const toY = (y) => ((top - y) / (top - bottom)) * surface.height;
const toStep = (t) => (t / race.steps) * (losses.width - INSET);
const toLoss = (log) => {
  const [low, high] = lossRange;
  return ((high - Math.max(log, low)) / (high - low)) * (losses.height - INSET);
};

/** Fit both drawings into the room that there is. */
function layout() {
  const aspect = (top - bottom) / (right - left);
  const wide = surface.holder.clientWidth;
  const margins = [30, 4, 4, 20];
  resize(surface, wide, Math.round((wide - 34) * aspect) + 24, margins);
  const scale = surface.width / race.units[0];
  contours.setAttribute("transform", `scale(${scale} ${surface.height / race.units[1]})`);
  const below = surface.height + 15;
  for (const x of ticks(left, right, surface.width / 90)) label(surface, number(x), toX(x), below, "middle");
  for (const y of ticks(bottom, top, surface.height / 90)) label(surface, number(y), -6, toY(y) + 4, "end");
  race.minima.forEach(([x, y], k) => minima[k].setAttribute("transform", `translate(${toX(x)} ${toY(y)})`));
  start.setAttribute("cx", toX(race.start[0]));
  start.setAttribute("cy", toY(race.start[1]));

  resize(losses, losses.holder.clientWidth, losses.holder.clientHeight, [46, 6, 10, 20]);
  const [low, high] = lossRange;
  const every = Math.ceil(((high - low) * 24) / losses.height);
  for (let log = low; log <= high; log += every) {
    const y = toLoss(log) + losses.margin.top;
    make("line", { x1: losses.margin.left, x2: losses.margin.left + losses.width, y1: y, y2: y }, losses.axes);
    const text = log >= -2 && log <= 3 ? number(10 ** log) : `1e${number(log)}`;
    label(losses, log === low && clamped ? `≤ ${text}` : text, -6, toLoss(log) + 4, "end");
  }
  for (const t of ticks(0, race.steps, losses.width / 90)) {
    if (Number.isInteger(t)) label(losses, number(t), toStep(t), losses.height + 15, "middle");
  }
  veil.setAttribute("height", losses.height);
  now.setAttribute("y2", losses.height);
  trace();
}

/** Take the runs of the present setting, draw their losses, and what is seen at the present step. */
function trace() {
  for (const family of race.families) {
    const run = chosen(family);
    family.run = run;
    family.xs = run.x.map(toX);
    family.ys = run.y.map(toY);
    let path = "";
    run.log.forEach((log, t) => {
      if (!Number.isNaN(log)) path += `${path ? "L" : "M"}${short(toStep(t))} ${short(toLoss(log))}`;
    });
    family.curve.setAttribute("d", path);
    family.setting.textContent = run.setting;
    family.onSurface.dataset.setting = run.setting;
  }
  draw();
}

/** Show the present step. */
function draw() {
  const t = state.step;
  for (const family of race.families) drawRun(family, t);
  veil.setAttribute("x", toStep(t));
  veil.setAttribute("width", Math.max(0, losses.width - toStep(t)));
  now.setAttribute("x1", toStep(t));
  now.setAttribute("x2", toStep(t));
  byId("at").textContent = t;
  byId("step").value = t;
  byId("step").setAttribute("aria-valuetext", `step ${t} of ${race.steps}`);
  showSettings();
  Object.assign(document.body.dataset, { step: t, best: state.best, rate: state.rate, momentum: state.momentum });
  document.body.dataset.playing = state.playing;
}

function drawRun(family, t) {
  const { run, xs, ys, look } = family;
  const last = Math.min(t, run.end - 1);
  const [word, words] = fate(run, t);
  const path = way(xs, ys, last, surface);
  family.path.setAttribute("d", path);
  family.halo.setAttribute("d", path);
  let dots = "";
  for (let k = race.every; k < last; k += race.every) {
    if (!outside(run, k)) dots += `M${short(xs[k])} ${short(ys[k])}h0`;
  }
  family.dots.setAttribute("d", dots);

  const within = (value, size) => short(Math.min(Math.max(value, 8), size - 8));
  const away = outside(run, last);
  const x = away ? within(xs[last], surface.width) : short(xs[last]);
  const y = away ? within(ys[last], surface.height) : short(ys[last]);
  family.head.setAttribute("transform", `translate(${x} ${y})`);
  drawMarker(family.head, look, word === "diverged");

  const log = word === "diverged" ? NaN : run.log[last];
  const [across, down] = Number.isNaN(log) ? [-99, -99] : [toStep(t), toLoss(log)];
  family.point.setAttribute("transform", `translate(${short(across)} ${short(down)}) scale(.8)`);
  family.loss.textContent = lossText(log);
  family.fate.textContent = words;
  for (const element of [family.button, family.onSurface]) element.dataset.fate = word;
  const shown = state.shown.has(family);
  family.button.setAttribute("aria-pressed", shown);
  for (const group of [family.onSurface, family.onLosses, family.present]) group.classList.toggle("off", !shown);
}

function showSettings() {
  byId("best").checked = state.best;
  byId("rate").value = state.rate;
  byId("momentum").value = state.momentum;
  byId("rate-value").textContent = race.rates[state.rate] ?? "";
  byId("momentum-value").textContent = race.momenta[state.momentum] ?? "";
  byId("rate").setAttribute("aria-valuetext", race.rates[state.rate] ?? "");
  byId("momentum").setAttribute("aria-valuetext", race.momenta[state.momentum] ?? "");
  byId("play").textContent = state.playing ? "Pause" : "Play";
}

// ---- the state, and who changes it ----

const nearest = (grid, wanted) => {
  const far = grid.map((text) => Math.abs(Math.log(text / wanted)));
  return Math.max(0, far.indexOf(Math.min(...far)));
};
const beginning = () => ({
  step: race.steps,
  best: true,
  rate: nearest(race.rates, 0.01),
  momentum: nearest(race.momenta, 0.9),
  playing: false,
  shown: new Set(race.families),
});
const state = beginning();

let frame = 0;

function pause() {
  state.playing = false;
  cancelAnimationFrame(frame);
}

function play() {
  if (state.step >= race.steps) state.step = 0;
  state.playing = true;
  let since = performance.now();
  const tick = (moment) => {
    const each = 1000 / byId("speed").value; // milliseconds
    const due = Math.floor((moment - since) / each);
    frame = requestAnimationFrame(tick);
    if (due <= 0) return;
    since += due * each;
    state.step = Math.min(race.steps, state.step + due);
    if (state.step === race.steps) pause();
    draw();
  };
  frame = requestAnimationFrame(tick);
}

function toggle() {
  if (state.playing) pause();
  else play();
  draw();
}

function light(family, on) {
  for (const element of [family.onSurface, family.onLosses, family.present, family.button]) {
    element.classList.toggle("lit", on);
  }
  const some = race.families.some((other) => state.shown.has(other) && other.button.classList.contains("lit"));
  for (const plot of [surface, losses]) plot.svg.classList.toggle("lit-one", some);
}

for (const family of race.families) {
  const [color, dashes] = family.look;
  const button = tag("button", "", tag("li", "", byId("legend")));
  button.type = "button";
  button.dataset.method = family.name;
  const sample = make("svg", { viewBox: "-19 -10 38 20", "aria-hidden": "true" }, button);
  make("path", { class: "path", d: "M-19 0H19", stroke: color, "stroke-dasharray": dashes || "none" }, sample);
  drawMarker(make("path", { class: "head" }, sample), family.look);
  const [upper, lower] = [tag("span", "line", button), tag("span", "line", button)];
  tag("span", "name", upper, family.label);
  family.setting = tag("span", "setting", upper);
  family.loss = tag("span", "loss", lower);
  family.fate = tag("span", "fate", lower);
  family.button = button;
  button.addEventListener("click", (event) => {
    if (!state.shown.delete(family)) state.shown.add(family);
    light(family, state.shown.has(family) && event.pointerType !== "touch");
    draw();
  });
  for (const element of [button, family.path, family.curve]) {
    element.addEventListener("pointerenter", () => light(family, true));
    element.addEventListener("pointerleave", () => light(family, false));
  }
  button.addEventListener("focus", () => light(family, button.matches(":focus-visible")));
  button.addEventListener("blur", () => light(family, false));
}

byId("play").addEventListener("click", toggle);
byId("step").addEventListener("input", (event) => {
  pause();
  state.step = Number(event.target.value);
  draw();
});
for (const name of ["rate", "momentum"]) {
  byId(name).addEventListener("input", (event) => {
    state[name] = Number(event.target.value);
    state.best = false;
    trace();
  });
}
byId("best").addEventListener("change", (event) => {
  state.best = event.target.checked;
  trace();
});
byId("reset").addEventListener("click", () => {
  pause();
  Object.assign(state, beginning());
  byId("speed").value = 25;
  trace();
});
for (const [id, families] of [["all", race.families], ["none", []]]) {
  byId(id).addEventListener("click", () => {
    state.shown = new Set(families);
    draw();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.target.closest("button, select, [type=checkbox]")) return;
  event.preventDefault();
  toggle();
});
const point = (event) => {
  if (event.buttons !== 1) return;
  pause();
  const share = (event.clientX - losses.field.getBoundingClientRect().left) / (losses.width - INSET);
  state.step = Math.round(Math.min(Math.max(share, 0), 1) * race.steps);
  draw();
};
losses.holder.addEventListener("pointerdown", point);
losses.holder.addEventListener("pointermove", point);

byId("star").setAttribute("d", STAR);
byId("of").textContent = race.steps;
byId("step").max = race.steps;
byId("rate").max = race.rates.length - 1;
byId("momentum").max = race.momenta.length - 1;
byId("rate-name").textContent = race.tuned === "lr" ? "Learning rate η" : "ε";
byId("rate-row").hidden = race.rates.length === 0;
byId("momentum-row").hidden = race.momenta.length === 0;
document.documentElement.style.setProperty("--aspect", (top - bottom) / (right - left));
for (const family of race.families) family.atBest = chosen(family);
const lossRange = lossAxis();
const clamped = race.families.some((family) => family.atBest.log.some((log) => log < lossRange[0]));
const observer = new ResizeObserver(layout);
observer.observe(surface.holder);
observer.observe(losses.holder);
layout();
document.body.dataset.ready = "";
