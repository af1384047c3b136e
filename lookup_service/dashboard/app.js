// The dashboard: everything it shows comes from this lookup's own endpoints.
import { arc, bar, byId, colorOf, el, named, percent } from "./dom.js";

const KEPT_EVENTS = 200;
const TREND = 150; // samples, one a second
const STATES = { active: "good", joining: "warn", draining: "warn" };
const state = { ring: null, nodes: [], trend: [], picked: null };

const apiKey = byId("key");
apiKey.value = sessionStorage.getItem("ringway-key") ?? "";
apiKey.addEventListener("change", () => sessionStorage.setItem("ringway-key", apiKey.value));

async function ask(path, options = {}) {
  const headers = apiKey.value ? { Authorization: `Bearer ${apiKey.value}` } : {};
  const answer = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  const body = await answer.json();
  if (!answer.ok && body.error) throw new Error(`${body.error}: ${body.message}`);
  return body;
}

function pill(id, kind, text) {
  byId(id).className = `pill ${kind}`;
  byId(id).textContent = text;
}

// Nodes and ring

function showNodes() {
  const active = state.nodes.filter((node) => node.state === "active");
  const known = state.nodes.filter((node) => node.sessions !== null);
  const sessions = known.reduce((sum, node) => sum + node.sessions, 0);
  byId("active").textContent = active.length;
  byId("sessions").textContent = known.length ? sessions.toLocaleString() : "–";
  byId("no-nodes").hidden = state.nodes.length > 0;
  byId("nodes").replaceChildren(...state.nodes.map(nodeRow));
  showRing(active);
}

function nodeRow(node) {
  const drain = el("button", { class: "quiet", disabled: node.state === "draining", onclick: () => drainNode(node) }, "Drain");
  const kind = node.down ? "bad" : STATES[node.state];
  return el("tr", {},
    el("td", {}, named(node.id)),
    el("td", {}, el("span", { class: `pill ${kind}` }, node.down ? "no answer" : node.state)),
    el("td", { class: "number" }, node.sessions === null ? "–" : node.sessions.toLocaleString()),
    el("td", {}, bar(node.share, colorOf(node.id))),
    el("td", { class: "number" }, node.vnodes),
    el("td", {}, el("code", {}, node.url)),
    el("td", { class: "number" }, drain));
}

function showRing(active) {
  let from = 0;
  const arcs = active.map((node) => {
    const path = arc(from, from + node.share, colorOf(node.id), `${node.id}: ${percent(node.share)} of all users`);
    from += node.share;
    path.classList.toggle("on", node.id === state.picked);
    return path;
  });
  const center = { x: 110, "text-anchor": "middle" };
  const word = String(state.picked ?? active.length);
  const size = Math.max(10, Math.min(34, 220 / word.length)); // a long name still fits the hole
  byId("ring").classList.toggle("picked", active.some((node) => node.id === state.picked));
  byId("ring").replaceChildren(
    ...(arcs.length ? arcs : [arc(0, 1, "var(--track)", "nobody")]),
    el("svg:text", { ...center, y: 116, class: "big", "font-size": size }, word),
    el("svg:text", { ...center, y: 136, class: "small" }, state.picked ? "owns the user" : active.length === 1 ? "node" : "nodes"));
}

function showTrend() {
  const known = state.nodes.filter((node) => node.sessions !== null);
  if (!known.length) return;
  state.trend.push(known.reduce((sum, node) => sum + node.sessions, 0));
  state.trend.splice(0, state.trend.length - TREND);
  const top = Math.max(...state.trend, 1);
  const step = 240 / Math.max(1, state.trend.length - 1);
  const points = state.trend.map((n, i) => `${(i * step).toFixed(1)},${(52 - (n / top) * 46).toFixed(1)}`);
  byId("trend").replaceChildren(
    el("svg:polygon", { class: "area", points: `0,56 ${points.join(" ")} 240,56` }),
    el("svg:polyline", { class: "line", points: points.join(" ") }));
}

async function drainNode(node) {
  if (!confirm(`Drain ${node.id}? Its sessions move to the other nodes, and its process exits.`)) return;
  try {
    await ask(`nodes/${encodeURIComponent(node.id)}/drain`, { method: "POST" });
    log("operator", "warn", `${node.id} was asked to drain`);
  } catch (error) {
    log("operator", "bad", error.message);
  }
}

// Try a route

byId("route-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const uid = new FormData(event.target).get("uid");
  await into("route", async () => {
    const route = await ask(`route?${new URLSearchParams({ uid, explain: 1 })}`);
    state.picked = route.node;
    showNodes();
    return routeResult(route);
  });
});

byId("route-form").addEventListener("input", () => {
  state.picked = null;
  showNodes();
});

function routeResult(route) {
  const why = route.explain;
  const chips = route.candidates.flatMap((node, i) => [
    i ? "→" : null, el("span", { class: i ? "chip" : "chip first" }, named(node))]);
  const facts = {
    "Owner by": `${why.vnode}, the first virtual node at or after the hash`,
    Hash: why.hash,
    Ring: `${route.gen}.${route.epoch}${route.stale ? ` (stale for ${route.age_s} s)` : ""}`,
    "Connect": route.connect_after_ms ? `after ${route.connect_after_ms} ms` : "at once",
    Ticket: `${route.reason}, good for ${route.expires_in} s and one session`,
  };
  const copy = el("button", { class: "quiet", type: "button", onclick: () => navigator.clipboard?.writeText(route.url) }, "Copy");
  return [
    el("p", { class: "headline" }, el("b", {}, route.uid), " is at ", el("b", {}, route.node)),
    el("div", { class: "path", title: "The nodes that would own this user, in order" }, ...chips.filter(Boolean)),
    el("dl", {}, ...Object.entries(facts).flatMap(([name, fact]) => [el("dt", {}, name), el("dd", {}, fact)])),
    el("div", { class: "url" }, el("code", {}, route.url), copy),
  ];
}

// What if

byId("preview-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target)) {
    const clean = value.replaceAll(/\s/g, "");
    if (clean) query.set(name, clean);
  }
  await into("preview", async () => previewResult(await ask(`ring/preview?${query}`)));
});

function previewResult(said) {
  const rows = said.nodes.map((node) => el("tr", {},
    el("td", {}, named(node.id)),
    el("td", {}, bar(node.share_before, colorOf(node.id))),
    el("td", {}, bar(node.share_after, colorOf(node.id))),
    el("td", { class: "number" }, `${node.sessions_before} → ${node.sessions_after}`)));
  const moved = `${said.sessions_moved.toLocaleString()} of ${said.sessions.toLocaleString()} sessions`;
  return [
    el("p", { class: "headline" }, el("b", {}, percent(said.moved_share)), " of all users would move: ", el("b", {}, moved)),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...["Node", "Share now", "Share then"].map((t) => el("th", {}, t)), el("th", { class: "number" }, "Sessions"))),
      el("tbody", {}, ...rows))),
  ];
}

async function into(id, make) {
  try {
    byId(id).replaceChildren(...await make());
  } catch (error) {
    byId(id).replaceChildren(el("p", { class: "error" }, error.message));
  }
}

// Events

function log(name, kind, text) {
  const time = new Date().toLocaleTimeString([], { hour12: false });
  const line = el("li", {}, el("time", {}, time), el("span", { class: `pill ${kind}` }, name), el("span", {}, text));
  byId("events").prepend(line);
  while (byId("events").children.length > KEPT_EVENTS) byId("events").lastChild.remove();
}

const plain = (value) => typeof value === "string" ? value : JSON.stringify(value);

function takeRing(ring) {
  const before = new Map((state.ring?.members ?? []).map((member) => [member.id, member]));
  const changes = ring.members
    .filter((member) => before.get(member.id)?.state !== member.state || before.get(member.id)?.vnodes !== member.vnodes)
    .map((member) => `${before.has(member.id) ? "" : "+"}${member.id} ${member.state}`);
  const now = new Set(ring.members.map((member) => member.id));
  const gone = [...before.keys()].filter((id) => !now.has(id)).map((id) => `−${id}`);
  const moved = ring.moved ? `; ${percent(ring.moved)} of all users move` : "";
  if (state.ring === null || changes.length || gone.length) {
    log("ring", "good", `${ring.gen}.${ring.epoch}: ${[...changes, ...gone].join(", ") || "unchanged"}${moved}`);
  }
  state.ring = ring;
  byId("version").textContent = ring.epoch;
  byId("version").title = `${ring.gen}.${ring.epoch}, checksum ${ring.checksum}`;
  byId("alg").textContent = ring.alg;
}

const TELL = {
  ring: takeRing,
  nodes: (data) => { state.nodes = data.nodes; showNodes(); showTrend(); },
  softdown: (data) => log("softdown", "bad", `${data.node} does not answer: its users go to the next nodes`),
};

function listen() {
  const source = new EventSource("events");
  source.onopen = () => pill("live", "good", "live");
  source.onerror = () => {
    pill("live", "bad", "reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
  for (const [name, take] of Object.entries(TELL)) source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  for (const name of ["moves", "drain", "node", "session"]) {
    source.addEventListener(name, (event) => {
      const { t, ...fields } = JSON.parse(event.data);
      log(t ?? name, "", Object.entries(fields).map(([key, value]) => `${key} ${plain(value)}`).join(", "));
    });
  }
}

async function health() {
  try {
    const said = await ask("readyz");
    pill("zookeeper", said.zookeeper ? "good" : "warn", said.zookeeper ? "ZooKeeper" : `ZooKeeper away ${Math.round(said.age_s)} s`);
    pill("redis", said.redis ? "good" : "bad", said.redis ? "Redis" : "Redis away");
  } catch {
    pill("zookeeper", "", "ZooKeeper ?");
    pill("redis", "", "Redis ?");
  }
  setTimeout(health, 2000);
}

listen();
health();
