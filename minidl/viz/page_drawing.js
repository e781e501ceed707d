// Drawing with SVG: nothing here knows of the race.

const short = (value) => Math.round(value * 100) / 100;

function make(name, attributes = {}, parent = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (parent) parent.append(element);
  return element;
}

function tag(name, className, parent, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

/** A regular polygon as an SVG path; with a second radius for every other corner, a star. */
function polygon(corners, radius, turn = 0, second = radius) {
  const corner = (_, k) => {
    const angle = (2 * Math.PI * k) / corners - Math.PI / 2 + turn;
    const r = k % 2 ? second : radius;
    return `${short(r * Math.cos(angle))} ${short(r * Math.sin(angle))}`;
  };
  return `M${Array.from({ length: corners }, corner).join("L")}z`;
}

const STAR = polygon(10, 8, 0, 3.3);
const MARKERS = {
  circle: "M-5.2 0a5.2 5.2 0 1 0 10.4 0a5.2 5.2 0 1 0-10.4 0z",
  square: polygon(4, 6.6, Math.PI / 4),
  triangle: polygon(3, 7),
  diamond: polygon(4, 7),
  wedge: polygon(3, 7, Math.PI),
  pentagon: polygon(5, 6.4),
  cross: "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  star: STAR,
  hexagon: polygon(6, 6.2, Math.PI / 6),
};
const LOST_MARK = "M-5-5L5 5M-5 5L5-5";

function drawMarker(path, [color, , marker], lost = false) {
  const open = marker.endsWith("-open");
  path.setAttribute("d", lost ? LOST_MARK : MARKERS[marker.replace("-open", "")]);
  path.setAttribute("fill", open ? "#fff" : color);
  path.setAttribute("stroke", open || lost ? color : "#fff");
}

const number = (value) => Number(value.toPrecision(6)).toString().replace("-", "−");

/** Round numbers that divide a range into about so many parts. */
function ticks(low, high, parts) {
  const rough = (high - low) / Math.max(1, parts);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const places = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) places.push(k * step);
  return places;
}

/** The part of a segment that lies inside a box, as shares of its length, or null. */
function clip(x, y, dx, dy, [x0, y0, x1, y1]) {
  let from = 0;
  let to = 1;
  for (const [start, move, low, high] of [[x, dx, x0, x1], [y, dy, y0, y1]]) {
    if (move === 0 && (start < low || start > high)) return null;
    if (move !== 0) {
      const [a, b] = [(low - start) / move, (high - start) / move];
      from = Math.max(from, Math.min(a, b));
      to = Math.min(to, Math.max(a, b));
    }
  }
  return from <= to ? [from, to] : null;
}

/** The way of a run up to step t as an SVG path, without what is farther away than the picture is wide. */
function way(xs, ys, t, { width, height }) {
  const box = [-width, -height, 2 * width, 2 * height];
  let path = `M${short(xs[0])} ${short(ys[0])}`;
  for (let k = 1; k <= t; k++) {
    const [x, y] = [xs[k - 1], ys[k - 1]];
    const [dx, dy] = [xs[k] - x, ys[k] - y];
    const part = clip(x, y, dx, dy, box);
    if (part) {
      const [from, to] = part;
      if (from > 0) path += `M${short(x + from * dx)} ${short(y + from * dy)}`;
      path += `L${short(x + to * dx)} ${short(y + to * dy)}`;
    }
  }
  return path;
}

/** An SVG in pixels with a field inside its margins, a group behind what is drawn there, ticks, and a frame. */
function drawing(holder) {
  const svg = make("svg", { "aria-hidden": "true" }, holder);
  const axes = make("g", { class: "ticks" }, svg);
  const field = make("svg", { class: "field" }, svg);
  const back = make("g", {}, field);
  const frame = make("rect", { class: "frame" }, svg);
  return { holder, svg, axes, field, back, frame };
}

function resize(plot, width, height, [marginLeft, marginTop, marginRight, marginBottom]) {
  plot.width = Math.max(40, width - marginLeft - marginRight);
  plot.height = Math.max(40, height - marginTop - marginBottom);
  plot.margin = { left: marginLeft, top: marginTop };
  const box = { x: marginLeft, y: marginTop, width: plot.width, height: plot.height };
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
    plot.svg.setAttribute(key, value);
  }
  for (const [key, value] of Object.entries(box)) {
    plot.field.setAttribute(key, value);
    plot.frame.setAttribute(key, value);
  }
  plot.axes.replaceChildren();
}

function label(plot, text, x, y, anchor) {
  make("text", { x: x + plot.margin.left, y: y + plot.margin.top, "text-anchor": anchor }, plot.axes).textContent = text;
}
