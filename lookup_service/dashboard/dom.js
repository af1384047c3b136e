// Building DOM from data. Text is always set as text: names of nodes and users come from outside.

export const byId = (id) => document.getElementById(id);

/** An element: `el("td", {class: "number", style: {width: "3px"}, onclick: f}, "text", otherElement)`. */
export function el(tag, attributes = {}, ...children) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(made.style, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

const COLORS = ["#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ef4444", "#06b6d4", "#eab308", "#ec4899", "#84cc16",
  "#6366f1", "#f97316", "#14b8a6"];
const given = new Map();

/** A node keeps its colour for as long as the page is open, whoever comes and goes. */
export function colorOf(node) {
  if (!given.has(node)) {
    const n = given.size;
    given.set(node, n < COLORS.length ? COLORS[n] : `hsl(${(n * 137.5) % 360} 62% 52%)`);
  }
  return given.get(node);
}

export const dot = (node) => el("span", { class: "dot", style: { background: colorOf(node) } });
export const named = (node) => el("span", { class: "name" }, dot(node), node);

/** A share as a bar with its figure. */
export function bar(share, color) {
  const filled = el("b", { style: { width: `${Math.min(100, share * 100)}%`, background: color } });
  return el("div", { class: "bar" }, el("i", {}, filled), percent(share));
}

/** One arc of a donut, from and to in turns, clockwise from the top. */
export function arc(from, to, color, title) {
  const point = (turn, radius) => {
    const angle = turn * 2 * Math.PI - Math.PI / 2;
    return `${(110 + radius * Math.cos(angle)).toFixed(2)} ${(110 + radius * Math.sin(angle)).toFixed(2)}`;
  };
  const end = Math.min(to, from + 0.99999);
  const large = end - from > 0.5 ? 1 : 0;
  const d = `M${point(from, 102)} A102 102 0 ${large} 1 ${point(end, 102)} L${point(end, 74)} A74 74 0 ${large} 0 ${point(from, 74)}Z`;
  return el("svg:path", { d, fill: color }, el("svg:title", {}, title));
}
