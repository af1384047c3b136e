/**
 * ringway's client for browsers and Node (20 or later): asks a lookup service for the node, talks to it, and follows it
 * when the ring changes. One ES module, no dependencies; `docs/protocol.md` is the protocol.
 *
 *     import { Client } from "./ringway.js";
 *     const client = new Client("http://127.0.0.1:8080", "alice", { onMessage: (m) => console.log(m.from, m.body) });
 *     await client.connect();
 *     await client.send("bob", { text: "hello" });
 *
 * It is the same machine as the Python client's: `TRANSITIONS` is compared with `machine.py`, and both are run through
 * `tests/vectors/machine.json`. Types and the meaning of each option: `ringway.d.ts`.
 */

// Close codes. The range carries the policy; tests/vectors/close_codes.json holds this table and Python's together.

export const CLOSE_CODES = Object.freeze({
  NORMAL: 1000, GOING_AWAY: 1001, PROTOCOL_ERROR: 1002, UNSUPPORTED_DATA: 1003, INVALID_DATA: 1007, TOO_BIG: 1009,
  INTERNAL_ERROR: 1011, BAD_PROTOCOL: 4000, UNAUTHORIZED: 4001, FORBIDDEN: 4003, REPLACED: 4009, SIGNED_OUT: 4010,
  NODE_FULL: 4100, SLOW_CONSUMER: 4101, RATE_LIMITED: 4102, NODE_ERROR: 4103, NO_PONG: 4200, GAP: 4202, MOVED: 4300,
  DRAINING: 4301, WRONG_NODE: 4302, STALE_TICKET: 4303, OPERATOR: 4304,
});
export const RANGES = Object.freeze([
  [1000, 1000, "stop"], [4000, 4099, "stop"], [4100, 4199, "back_off"], [4200, 4299, "retry_node"],
  [4300, 4399, "re_route"],
]);
export const OTHERWISE = "retry_node";
const BROKEN = 1006; // RFC 6455, 7.1.5: no close frame came; also a connection that never opened

/** What to do after a close with this code. */
export function actionFor(code) {
  const range = RANGES.find(([first, last]) => first <= code && code <= last);
  return range ? range[2] : OTHERWISE;
}

/** Read a close reason. Anything that is not ours reads as no wish at all: a reason must never break a client. */
export function parseReason(text) {
  const whole = (value) => Math.max(0, Math.trunc(Number(value ?? 0)));
  try {
    const raw = JSON.parse(text);
    const [spreadMs, epoch] = [whole(raw.w), whole(raw.e)];
    return Number.isFinite(spreadMs + epoch) ? { spreadMs, epoch } : { spreadMs: 0, epoch: 0 };
  } catch {
    return { spreadMs: 0, epoch: 0 };
  }
}

/** Seconds before attempt number `attempt`: min(cap, base + rand(0, base * 2 ** attempt)). */
export function fullJitter(attempt, random, baseS = 0.5, capS = 20) {
  const window = Math.min(capS, baseS * 2 ** Math.min(attempt, 32));
  return Math.min(capS, baseS + random() * window);
}

/** Seconds to wait when a crowd is asked to spread over a window. */
export function spread(windowS, random) {
  return random() * Math.max(0, windowS);
}

// Errors. The same tree, names and fields as in Python.

export class RingwayError extends Error {
  constructor(text, fields = {}) {
    super(text);
    this.name = new.target.name;
    Object.assign(this, fields);
  }
}
/** The value for an error text. */
function shown(value) {
  try {
    return String(JSON.stringify(value)).slice(0, 80);
  } catch { // a BigInt, a circle
    return typeof value;
  }
}
/** A value breaks a rule. */
export class InvalidInput extends RingwayError {
  constructor(field, value, rule, remedy) {
    super(`${field}=${shown(value)}: ${rule}; ${remedy}`, { field, value, rule, remedy });
  }
}
/** A service does not answer now; trying again may work. */
export class Unavailable extends RingwayError {
  constructor(service, why) {
    super(`${service} is unavailable (${why})`, { service, why });
  }
}
export class ClientError extends RingwayError {}
/** The lookup service answered with an error that trying again cannot mend. */
export class RouteRefused extends ClientError {
  constructor(status, code, message) {
    super(`the lookup service refused the route: ${status} ${code}: ${message}`, { status, code, detail: message });
  }
}
/** No connection came about. */
export class ConnectFailed extends ClientError {
  constructor(url, why) {
    super(`could not connect to ${url}: ${why}`, { url, why });
  }
}
/** The server closed with a code that means stop (1000, 4000-4099). */
export class ClosedByServer extends ClientError {
  constructor(code, reason = "") {
    super(`closed by the server with ${code}${reason ? `: ${reason}` : ""}`, { code, reason });
  }
}
/** The node answered a frame with an `error` that sending it again cannot mend. */
export class FrameRefused extends ClientError {
  constructor(code, message, id = null) {
    super(`the node refused ${id || "a frame"}: ${code}: ${message}`, { code, detail: message, id });
  }
}
/** A message was written, had no `ok`, and is not sent again: the log may have it, and know its id no longer. */
export class Unconfirmed extends ClientError {
  constructor(id, age) {
    super(`${id} was written ${age.toFixed()} s ago and had no ok, and is too old to be known again; `
      + "it may have arrived: ask, or send it anew where twice does no harm", { id, age });
  }
}
/** More messages wait for `ok` than the client keeps; nothing was sent. */
export class SendBufferFull extends ClientError {
  constructor(limit) {
    super(`${limit} messages already wait for ok; wait for some, or raise outboxLimit`, { limit });
  }
}
/** Sent from node to node too often; the client backs off before it tries again. */
export class TooManyHops extends ClientError {
  constructor(hops) {
    super(`sent from node to node ${hops} times without a healthy connection`, { hops });
  }
}
/** The application called close(). */
export class ClientClosed extends ClientError {
  constructor() {
    super("the client is closed; make a new one");
  }
}

// The machine: (machine, event, now, random) -> [machine, actions]. Pure.

export const MAX_HOPS = 5;
const HEALTHY_S = 5;
const RETRY_SPREAD_S = 0.2;
const AVOID_SPREAD_S = 0.25;
const MAX_RETRY_AFTER_S = 300;

export const State = Object.freeze({
  IDLE: "idle", RESOLVING: "resolving", WAITING: "waiting", CONNECTING: "connecting", OPEN: "open", MOVING: "moving",
  CLOSED: "closed",
});

/** state -> event -> the states it may lead to. */
export const TRANSITIONS = Object.freeze({
  idle: { start: ["resolving"], close: ["closed"] },
  resolving: {
    routed: ["connecting", "waiting"],
    lookup_failed: ["resolving", "waiting", "closed"],
    close: ["closed"],
  },
  waiting: { timer: ["resolving", "connecting"], close: ["closed"] },
  connecting: { welcome: ["open"], lost: ["resolving", "waiting", "closed"], close: ["closed"] },
  open: { move: ["open", "moving"], lost: ["waiting", "closed"], close: ["closed"] },
  moving: {
    routed: ["moving", "open"],
    lookup_failed: ["moving"],
    timer: ["moving"],
    welcome: ["open"],
    move: ["moving"],
    lost: ["moving", "resolving", "connecting", "waiting", "closed"],
    close: ["closed"],
  },
  closed: { close: ["closed"] },
});

/** An event that the state does not know: a bug in the caller. The machine has not changed. */
export class IllegalEvent extends Error {}

/** A machine at rest. Machines are values: `step` makes the next one. */
export function newMachine(lookups = 1) {
  return Object.freeze({
    lookups, step: "idle", stamp: 0, live: 0, attempt: 0, url: "", node: "", liveUrl: "", liveNode: "", resume: "",
    gen: 0, epoch: 0, avoid: "", lookup: 0, tried: 0, retryAfter: 0, failures: 0, hops: 0, retried: false, openedAt: 0,
    patienceS: 0,
  });
}

/** The state of a machine. */
export function stateOf(m) {
  return !m.live || m.step === "open" || m.step === "closed" ? m.step : "moving";
}

/** The next machine and what to do, in order. `now` in seconds of a steady clock, `random` gives [0, 1). */
export function step(machine, event, now, random) {
  if (isLate(machine, event)) return [machine, []];
  const state = stateOf(machine);
  const allowed = TRANSITIONS[state][event.on];
  if (!allowed) throw new IllegalEvent(`${event.on} while ${state}`);
  const [after, actions] = RULES[event.on](machine, event, now, random);
  if (!allowed.includes(stateOf(after))) {
    throw new IllegalEvent(`${event.on} may not lead from ${state} to ${stateOf(after)}`);
  }
  return [after, actions];
}

const change = (m, fields) => Object.freeze({ ...m, ...fields });
const attempt = (m, at) => change(m, { step: at, stamp: m.stamp + 1, attempt: m.stamp + 1 });
const saw = (m, gen, epoch) => (gen > m.gen || (gen === m.gen && epoch > m.epoch) ? change(m, { gen, epoch }) : m);
const minEpoch = (m) => (m.gen ? `${m.gen}.${m.epoch}` : "");

function isLate(m, event) {
  if (event.on === "start" || event.on === "close") return false;
  if (!event.stamp) return true;
  if (event.on === "lost") return event.stamp !== m.live && event.stamp !== m.attempt;
  return event.stamp !== (event.on === "move" ? m.live : m.attempt);
}

function resolve(m, anew = true) {
  const next = attempt(anew ? change(m, { tried: 0, retryAfter: 0 }) : m, "resolving");
  const action = { do: "resolve", stamp: next.attempt, lookup: m.lookup, min_epoch: minEpoch(m), avoid: m.avoid };
  return [next, [action]];
}

function connect(m) {
  const next = attempt(m, "connecting");
  // With a connection in use there is nothing to gain by giving up early; without, the next node may do better.
  return [next, [{ do: "connect", stamp: next.attempt, url: m.url, within_s: m.live ? m.patienceS : 0 }]];
}

function wait(m, delayS) {
  const next = attempt(m, "waiting");
  return [next, [{ do: "wait", stamp: next.attempt, delay_s: delayS }]];
}

function end(m, ...last) {
  const drops = [m.attempt, m.live].filter(Boolean).map((stamp) => ({ do: "drop", stamp }));
  return [change(m, { step: "closed", live: 0, attempt: 0, resume: "" }), [...drops, ...last]];
}

const stop = (code, reason, message = "") => ({ do: "stop", code, reason, message });

/** The URL with its ticket replaced. */
function withTicket(url, ticket) {
  return url.replace(/([?&]ticket=)[^&]*/g, (_, head) => head + ticket);
}

const RULES = {
  start: (m, _event, _now, random) => resolve(change(m, { lookup: Math.floor(random() * m.lookups) })),
  close: (m) => end(m),
  timer: (m) => (m.url ? connect(m) : resolve(m)),

  routed(m, event) {
    const next = change(saw(m, event.gen, event.epoch), { url: event.url, node: event.node });
    if (m.live && event.node === m.liveNode) return [change(next, { step: "open", attempt: 0 }), []];
    return event.connect_after_ms > 0 ? wait(next, event.connect_after_ms / 1000) : connect(next);
  },

  lookup_failed(m, event, _now, random) {
    const { status = 0, retry_after: retryAfter = 0, code = "", message = "" } = event;
    const mendable = [0, 408, 429].includes(status) || status >= 500;
    if (!mendable && !m.live) return end(m, stop(status, code, message));
    const next = change(m, {
      tried: m.tried + 1, retryAfter: Math.max(m.retryAfter, Math.min(retryAfter, MAX_RETRY_AFTER_S)),
    });
    if (mendable && status !== 429 && next.tried < m.lookups) {
      return resolve(change(next, { lookup: (m.lookup + 1) % m.lookups }), false);
    }
    const failed = change(next, { failures: m.failures + 1, url: "" });
    if (!failed.retryAfter) return wait(failed, fullJitter(failed.failures, random));
    return wait(failed, failed.retryAfter + spread(Math.max(1, failed.retryAfter), random));
  },

  welcome(m, event, now) {
    const opened = change(saw(m, event.gen, event.epoch), {
      step: "open", live: event.stamp, attempt: 0, liveUrl: m.url, liveNode: event.node, resume: event.resume ?? "",
      avoid: "", openedAt: now,
    });
    const old = m.live ? [{ do: "drop", stamp: m.live }] : [];
    return [opened, [{ do: "adopt", stamp: event.stamp }, ...old]];
  },

  move(m, event) {
    if (event.gen < m.gen || (event.gen === m.gen && event.epoch < m.epoch)) return [m, []];
    const old = m.attempt ? [{ do: "drop", stamp: m.attempt }] : [];
    const patienceS = (event.deadline_ms ?? 0) / 1000;
    const [next, actions] = connect(change(saw(m, event.gen, event.epoch), { url: event.url, node: event.node ?? "", patienceS }));
    return [next, [...old, ...actions]];
  },

  lost(m, event, now, random) {
    const { code = BROKEN, reason = "" } = event;
    const wish = parseReason(reason);
    const windowS = wish.spreadMs / 1000;
    let next = saw(m, m.gen, wish.epoch);
    if (event.stamp === m.attempt) {
      return afterFailure(change(next, { attempt: 0 }), code, reason, windowS, random, m.retried);
    }
    if (now - m.openedAt >= HEALTHY_S) next = change(next, { failures: 0, hops: 0, retried: false });
    if (m.step === "open") {
      return afterLoss(change(next, { live: 0, node: m.liveNode }), code, reason, windowS, random);
    }
    // Moving. A 4009 may be our own new session taking over before its welcome reached us.
    next = change(next, { live: 0 });
    const stops = actionFor(code) === "stop" && code !== CLOSE_CODES.REPLACED;
    return stops ? end(next, stop(code, reason)) : [next, []];
  },
};

function afterLoss(m, code, reason, windowS, random) {
  if (actionFor(code) !== "retry_node" || !m.resume || m.retried) return afterFailure(m, code, reason, windowS, random);
  const again = change(m, { retried: true, url: withTicket(m.liveUrl, m.resume), resume: "" });
  return wait(again, spread(windowS || RETRY_SPREAD_S, random));
}

/** `apart`: a crowd was spread before it tried the node again, and need not be again. */
function afterFailure(m, code, reason, windowS, random, apart = false) {
  const action = actionFor(code);
  if (action === "stop" && !m.live) return end(m, stop(code, reason));
  let next = change(m, { url: "" });
  if (action === "re_route") {
    next = change(next, { hops: m.hops + 1, avoid: "" });
    if (next.hops <= MAX_HOPS) return wait(next, spread(windowS, random));
  }
  const unreachable = action === "retry_node" && !(code >= 4200 && code <= 4299);
  const first = unreachable && !next.failures;
  next = change(next, { failures: next.failures + 1, avoid: unreachable ? next.node : next.avoid });
  if (first && apart && !windowS) return resolve(next);
  const delayS = first ? spread(AVOID_SPREAD_S, random) : fullJitter(next.failures, random);
  return wait(next, Math.max(delayS, spread(windowS, random)));
}

// Positions, outbox, liveness. Pure.

const RETIRED = 4;

/** Read `gen:seq`; null for anything else. */
function parsePosition(text) {
  const match = /^([0-9A-Za-z_-]{1,32}):([0-9]{1,15})$/.exec(text);
  return match && { gen: match[1], seq: Number(match[2]) };
}

function isSamePlace(one, other) {
  return one?.gen === other?.gen && one?.seq === other?.seq;
}

/** Where the client is in each channel: what was taken from the wire, and what the application has finished with. */
export class Positions {
  #taken = new Map();
  #loose = new Set(); // channels whose start is the server's count, not a frame we saw
  #retired = new Map(); // former incarnations, and how far we were in each
  #given = new Map(); // the last that the application got
  #passed = new Map(); // the last after it that it did not get, since it had it already
  #finished = new Map();
  #unacked = new Set();
  #acked = new Set();
  #doubted = new Map(); // where a message did not follow
  #asked = new Map(); // joined from this place of ours, not answered yet
  #early = new Set(); // of these: something was dropped meanwhile
  #unsaved = false; // there is a place to keep, and nothing to acknowledge with it

  constructor(saved = {}) {
    for (const [ch, text] of Object.entries(saved ?? {})) {
      const position = parsePosition(text);
      if (!position) continue; // a damaged store must not stop the client
      for (const places of [this.#taken, this.#given, this.#finished]) places.set(ch, position);
    }
  }

  at(ch) {
    return this.#taken.get(ch) ?? null;
  }

  /** Those with a place. */
  channels() {
    return [...this.#taken.keys()];
  }

  /**
   * The place from which the client joins the channel now, if it has one.
   *
   * A node joins members of a group by itself, from where the user has read on any device, before it hears of our
   * place. So its own answer is not the one to us, which has the place that we asked from; and until that comes no message
   * is taken: all after our place come again behind it. (Those before it may be of another incarnation.)
   */
  ask(ch) {
    const at = this.at(ch);
    if (at) this.#asked.set(ch, at);
    return at;
  }

  /** Whether the answer to `ask` is still to come. */
  asked(ch) {
    return this.#asked.has(ch);
  }

  /** There will be no answer to `ask`. Returns whether anything was dropped while waiting for it. */
  refused(ch) {
    const wasEarly = this.#early.has(ch);
    this.#noLongerAsked(ch);
    return wasEarly;
  }

  #noLongerAsked(ch) {
    this.#asked.delete(ch);
    this.#early.delete(ch);
  }

  /** The application wants everything after this place, whatever it has had. */
  start(ch, { gen, seq }) {
    this.#taken.delete(ch);
    this.#retired.delete(ch);
    this.#place(ch, { gen, seq });
  }

  /** Heed `welcome` (its inbox) or `joined`. Returns the gap, if any. */
  answered(ch, { gen, seq: head, unread = 0, recovered = true, oldest, from }) {
    if (!isSamePlace(from, this.#asked.get(ch))) return null;
    this.#noLongerAsked(ch);
    const start = Math.max(0, head - (unread || 0));
    const had = this.at(ch);
    if (!recovered) return this.#cut(ch, had, gen, head, oldest || head + 1);
    if (had?.gen !== gen) {
      this.#place(ch, { gen, seq: start });
      this.#loose.add(ch);
    }
    if (!had && start === head) { // to go on from here after a reload, though no message comes before it
      for (const places of [this.#given, this.#finished]) places.set(ch, this.at(ch));
      this.#unsaved = true;
    }
    return null;
  }

  /** The log begins at `oldest`: a gap, unless we are further already. */
  #cut(ch, had, gen, head, oldest) {
    if (had?.gen === gen && oldest - 1 <= had.seq && had.seq <= head) return null;
    this.#place(ch, { gen, seq: Math.max(had?.gen === gen ? had.seq : 0, oldest - 1) });
    return { ch, had, gen, oldest };
  }

  /** Heed `position`: the log goes on after this place, in a new incarnation or behind a loss. */
  continues(ch, { gen, seq, recovered = true, oldest }) {
    const had = this.at(ch);
    if (this.#retired.get(ch)?.has(gen) || this.#asked.has(ch)) return null; // the answer will say it, from our place
    if (had?.gen !== gen) {
      this.#place(ch, { gen, seq });
      if (recovered && this.#given.has(ch)) this.#pass(ch);
    } else if (!recovered) this.#place(ch, { gen, seq: Math.max(had.seq, seq) });
    return recovered ? null : { ch, had, gen, oldest: oldest || seq + 1 };
  }

  /**
   * What to do with a message: ["new", the gap before it], ["old", null], ["ahead", null] or ["early", null].
   *
   * Ahead of the answer to `ask` nothing is taken.
   * One that does not follow the last is not taken at first: a new connection asks for what is between. If it comes
   * again right after the same place, nothing is between any more, and it is taken with the gap before it.
   * `was` is the place it had in an incarnation that Redis lost, before it was appended again: we may have had it there.
   */
  take(ch, gen, seq, was = null) {
    const had = this.at(ch);
    if (this.#retired.get(ch)?.has(gen) || (had?.gen === gen && seq <= had.seq)) return ["old", null];
    if (this.#asked.has(ch)) {
      this.#early.add(ch);
      return ["early", null];
    }
    let gap = null;
    const follows = !had || (had.gen === gen && had.seq + 1 === seq);
    if (!follows && !this.#loose.has(ch)) {
      if (this.#doubted.get(ch) !== had) {
        this.#doubted.set(ch, had);
        return ["ahead", null];
      }
      gap = { ch, had, gen, oldest: seq };
    }
    this.#place(ch, { gen, seq });
    if (was !== null && (this.#retired.get(ch)?.get(was.gen) ?? -1) >= was.seq) {
      this.#pass(ch);
      return ["old", gap];
    }
    this.#given.set(ch, this.#taken.get(ch));
    this.#passed.delete(ch);
    return ["new", gap];
  }

  /**
   * The application is not given what is in this place, for it has had it: it is finished with the last that was given,
   * or would stay unread for ever.
   */
  #pass(ch) {
    this.#passed.set(ch, this.#taken.get(ch));
    const given = this.#given.get(ch);
    if (isSamePlace(given, this.#finished.get(ch))) this.#finish(ch, given);
  }

  #place(ch, position) {
    const had = this.at(ch);
    if (had && had.gen !== position.gen) {
      const retired = [...(this.#retired.get(ch) ?? []), [had.gen, had.seq]];
      this.#retired.set(ch, new Map(retired.slice(-RETIRED)));
    }
    this.#taken.set(ch, position);
    this.#loose.delete(ch);
    this.#doubted.delete(ch);
  }

  /** The application is done with everything up to here. Of a channel that it has left, that says nothing. */
  finish(ch, gen, seq) {
    if (this.#taken.has(ch)) this.#finish(ch, { gen, seq });
  }

  #finish(ch, place) {
    if (this.#passed.has(ch) && isSamePlace(place, this.#given.get(ch))) {
      place = this.#passed.get(ch);
      this.#given.set(ch, place);
      this.#passed.delete(ch);
    }
    if (!place || !this.#isLater(ch, place, this.#finished.get(ch))) return;
    this.#finished.set(ch, place);
    this.#unacked.add(ch);
  }

  #isLater(ch, place, had) {
    if (!had) return true;
    const gens = [...(this.#retired.get(ch)?.keys() ?? []), this.at(ch).gen];
    return (gens.indexOf(place.gen) - gens.indexOf(had.gen) || place.seq - had.seq) > 0;
  }

  /** Whether there is anything to acknowledge or to keep now. */
  get due() {
    return this.#unacked.size > 0 || this.#unsaved;
  }

  /** What to acknowledge now, each once: [[ch, position], ...]. */
  acks() {
    const due = [...this.#unacked].sort().map((ch) => [ch, this.#finished.get(ch)]);
    for (const ch of this.#unacked) this.#acked.add(ch);
    this.#unacked.clear();
    this.#unsaved = false;
    return due;
  }

  /** On a new connection: an ack has no ok, so the last one of each channel may be lost. */
  ackAgain() {
    for (const ch of this.#acked) this.#unacked.add(ch);
  }

  /** The client left the channel. */
  forget(ch) {
    this.#noLongerAsked(ch);
    const maps = [this.#taken, this.#given, this.#passed, this.#finished, this.#retired, this.#doubted];
    for (const places of [...maps, this.#loose, this.#unacked, this.#acked]) places.delete(ch);
  }

  saved() {
    return Object.fromEntries([...this.#finished].map(([ch, { gen, seq }]) => [ch, `${gen}:${seq}`]));
  }
}

/**
 * What was sent and has no `ok` yet, in order. Entries are {id, text, receipt, volatile, written}; `written`: unix seconds
 * at which it first went out on a connection, or null. Of all clocks only that one goes on while a laptop sleeps.
 */
export class Outbox {
  #entries = new Map();
  #byText = new Map();

  constructor(limit) {
    this.limit = limit;
  }

  get size() {
    return this.#entries.size;
  }

  add(entry) {
    if (this.#entries.has(entry.id)) {
      throw new InvalidInput("id", entry.id, "must not wait for its ok already", "give each message an id of its own");
    }
    if (this.#entries.size >= this.limit) throw new SendBufferFull(this.limit);
    const kept = { ...entry, written: null };
    this.#entries.set(entry.id, kept);
    this.#byText.set(entry.text, kept);
  }

  settle(id) {
    const entry = this.#entries.get(id) ?? null;
    this.#entries.delete(id);
    this.#byText.delete(entry?.text);
    return entry;
  }

  /** A frame, of a message or not, goes out on a connection; `now` in unix seconds. */
  wrote(text, now) {
    const entry = this.#byText.get(text);
    if (entry) entry.written ??= now;
  }

  durable(id) {
    return this.#entries.get(id)?.volatile === false;
  }

  entries() {
    return [...this.#entries.values()];
  }

  /** The frames to write on a new connection. A volatile one is written at most once, so not again. */
  texts() {
    return this.entries().filter((entry) => !entry.volatile).map((entry) => entry.text);
  }

  dropVolatile() {
    return this.#take(this.entries().filter((entry) => entry.volatile));
  }

  /** Take out the messages that were first written before a moment. Of volatile ones it is no matter. */
  dropWrittenBefore(moment) {
    return this.#take(this.entries().filter(({ volatile: v, written }) => !v && written !== null && written < moment));
  }

  clear() {
    return this.#take(this.entries());
  }

  #take(gone) {
    for (const entry of gone) this.settle(entry.id);
    return gone;
  }
}

const PACE_SHARE = 0.9; // of the node's rate: its clock is not ours
const PACE_BURST_S = 4; // a node lets 5 s of its rate come at once

/** How fast to write on one connection; `rate` is messages a second, what `welcome` said, or null: as many as come. */
class Pace {
  #rate;
  #burst;
  #tokens;
  #updated = null;

  constructor(rate) {
    this.#rate = (rate || 0) * PACE_SHARE;
    this.#tokens = this.#burst = Math.max(1, (rate || 0) * PACE_BURST_S);
  }

  /** Seconds to wait before the next message; 0: it may go now, and is counted. */
  take(now) {
    if (!this.#rate) return 0;
    if (this.#updated !== null) this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#updated) * this.#rate);
    this.#updated = now;
    if (this.#tokens < 1) return (1 - this.#tokens) / this.#rate;
    this.#tokens -= 1;
    return 0;
  }
}

const PONG_S = 10;
const DEFAULT_PING_S = 25;

/** Is the node still there? Browsers hide WebSocket pings from a page, so silence is met with a `ping` frame. */
export class Liveness {
  #pingS;
  #heard;
  #asked = null;
  #reading = true;

  constructor(pingS, now) {
    this.#pingS = pingS > 0 ? pingS : DEFAULT_PING_S;
    this.#heard = now;
  }

  /** The application is behind, and we read no more: an answer may wait, so silence says nothing. */
  pause() {
    this.#reading = false;
  }

  /** We read on. */
  resume(now) {
    if (this.#reading) return;
    this.#reading = true;
    this.heard(now);
  }

  heard(now) {
    this.#heard = now;
    this.#asked = null;
  }

  pingDue(now) {
    if (!this.#reading || this.#asked !== null || now - this.#heard < this.#pingS) return false;
    this.#asked = now;
    return true;
  }

  dead(now) {
    return this.#reading && this.#asked !== null && now - this.#asked >= PONG_S;
  }

  nextS(now) {
    if (!this.#reading) return this.#pingS;
    return Math.max(0, (this.#asked === null ? this.#heard + this.#pingS : this.#asked + PONG_S) - now);
  }
}

// The conversation: what a client says and hears, apart from any connection.

const FRAME_LIMIT = 65536;
const DEDUP_S = 3600; // for so long at least a log knows a message's id, unless the node says otherwise
const SURE = 0.75; // of that time: clocks are set, and a full outbox takes its time to write
const RETRYABLE = "unavailable"; // the error code that the same frame may not meet later
const utf8 = new TextEncoder();
const MAX_DEPTH = 254; // of lists and objects in a body: what a node can write again
const MAX_RECIPIENTS = 1000;
const CONTROL = /[\x00-\x1f\x7f-\x9f]/; // eslint-disable-line no-control-regex

/** The uid, or an error. 1 to 256 bytes of UTF-8 without control characters. */
function validateUid(value, field = "uid") {
  const rule = "must be 1 to 256 bytes of UTF-8 without control characters";
  const whole = typeof value === "string" && !/\p{Surrogate}/u.test(value);
  const size = whole ? utf8.encode(value).length : 0;
  if (size < 1 || size > 256 || CONTROL.test(value)) throw new InvalidInput(field, value, rule, `give another ${field}`);
  return value;
}

/** The URLs of the lookups, or an error: one that is none would be asked for ever. */
function validateLookups(lookup) {
  const urls = [].concat(lookup);
  if (urls.length && urls.every(isHttp)) return urls;
  const rule = "must be the URL of a lookup service, or of several";
  throw new InvalidInput("lookup", lookup, rule, "give one like http://127.0.0.1:8080");
}

function isHttp(text) {
  try {
    return typeof text === "string" && /^https?:[/][/][^/]/i.test(text) && Boolean(new URL(text));
  } catch {
    return false;
  }
}

function validateRecipients(to) {
  if (to.length < 1 || to.length > MAX_RECIPIENTS) {
    throw new InvalidInput("to", to.length, `must be 1 to ${MAX_RECIPIENTS} uids`, "split the list");
  }
  return to.map((uid) => validateUid(uid, "to"));
}

function validateId(value) {
  const rule = "must be 1 to 64 printable ASCII characters without spaces";
  if (typeof value === "string" && /^[\x21-\x7e]{1,64}$/.test(value)) return value;
  throw new InvalidInput("id", value, rule, "give each message an id of its own, such as a UUID");
}

/** The text of a message's body, or an error: for JSON that it cannot read a node could not even name the message. */
function bodyText(body) {
  const no = (why) => new InvalidInput("body", String(typeof body), `must be a JSON value (${why})`, "null is allowed");
  let text;
  try {
    text = JSON.stringify(body);
  } catch (error) { // a circle, a BigInt, too deep for the stack
    throw no(error.message);
  }
  if (text === undefined) throw no("it has no JSON");
  if (/\\ud[89a-f]/.test(text.replaceAll("\\\\", ""))) throw no("half of a surrogate pair is not valid UTF-8");
  if (text.length > 2 * MAX_DEPTH && depth(text) > MAX_DEPTH) throw no(`nested at most ${MAX_DEPTH} levels deep`);
  return text;
}

/** How many lists and objects are within each other, at most. */
function depth(json) {
  let [deepest, now] = [0, 0];
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/g)) {
    if (token === "[" || token === "{") deepest = Math.max(deepest, ++now);
    else if (token === "]" || token === "}") now -= 1;
  }
  return deepest;
}

function newPrefix() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Outlives connections: says again what had no ok, joins again, and does not hear twice. */
export class Conversation {
  #left = new Set();
  #refused = new Set(); // groups that are not joined again by themselves
  #prefix = newPrefix();
  #count = 0;
  #dedupS = DEDUP_S;

  constructor(uid, { outboxLimit = 1000, saved = {} } = {}) {
    this.inbox = `u:${uid}`;
    this.positions = new Positions(saved);
    this.outbox = new Outbox(outboxLimit);
    this.groups = new Map(); // with the receipts of joins that are not answered yet
    this.open = false;
    this.held = false;
  }

  newId() {
    return `${this.#prefix}-${++this.#count}`;
  }

  /** Each of these returns the frames to write now: none while there is no connection. */
  send(to, body, receipt, isVolatile = false) {
    const frame = { t: "send", id: receipt.id, to: Array.isArray(to) ? validateRecipients(to) : validateUid(to, "to") };
    return isVolatile ? this.#sayNow({ ...frame, volatile: true }, body, receipt) : this.#say(frame, body, receipt);
  }

  publish(group, body, receipt) {
    return this.#say({ t: "publish", id: receipt.id, group: validateUid(group, "group") }, body, receipt);
  }

  broadcast(body, receipt) {
    return this.#sayNow({ t: "broadcast", id: receipt.id }, body, receipt);
  }

  #sayNow(frame, body, receipt) {
    if (!this.open) throw new Unavailable("the node", "not connected, and a volatile message does not wait");
    return this.#say(frame, body, receipt, true);
  }

  #say(frame, body, receipt, isVolatile = false) {
    validateId(frame.id);
    const text = `${JSON.stringify(frame).slice(0, -1)},"body":${bodyText(body)}}`;
    const size = utf8.encode(text).length;
    if (size > FRAME_LIMIT) {
      throw new InvalidInput("body", `${size} bytes`, `must fit a frame of ${FRAME_LIMIT} bytes`, "send a link instead");
    }
    this.outbox.add({ id: frame.id, text, receipt, volatile: isVolatile });
    return this.open && (isVolatile || !this.held) ? [text] : [];
  }

  join(group, receipt, from = null) {
    validateUid(group, "group");
    if (from !== null) {
      const place = parsePosition(`${from.gen}:${from.seq}`);
      if (!place) throw new InvalidInput("from", from, "must have a gen and a seq", "give those of the last message you had");
      this.positions.start(`g:${group}`, place);
    }
    const waiting = this.groups.get(group) ?? [];
    this.groups.set(group, [...waiting, receipt]);
    this.#left.delete(group);
    this.#refused.delete(group);
    const asked = waiting.length > 0 && from === null;
    return this.open && !asked ? [this.#joinText(group)] : [];
  }

  #joinText(group) {
    const at = this.positions.ask(`g:${group}`);
    return JSON.stringify(at ? { t: "join", group, from: { gen: at.gen, seq: at.seq } } : { t: "join", group });
  }

  leave(group) {
    const waiting = this.groups.get(group) ?? [];
    this.groups.delete(group);
    for (const receipt of waiting) receipt.fail(new FrameRefused("left", `${group} was left before the node had answered`));
    this.positions.forget(`g:${group}`);
    this.#left.add(group);
    return this.open ? [JSON.stringify({ t: "leave", group })] : [];
  }

  acks() {
    if (!this.open) return [];
    return this.positions.acks().map(([ch, { gen, seq }]) => JSON.stringify({ t: "ack", ch, gen, seq }));
  }

  /** The node's URL with the place in the inbox to go on from. */
  url(url) {
    const at = this.positions.at(this.inbox);
    return at ? `${url}${url.includes("?") ? "&" : "?"}inbox=${at.gen}:${at.seq}` : url;
  }

  /** A node said welcome: [the frames to write first, what to tell]. `now` in unix seconds. */
  opened(inbox, now, dedupS = DEDUP_S) {
    this.open = true;
    this.held = false;
    this.#dedupS = dedupS;
    const gap = inbox && "gen" in inbox ? this.positions.answered(this.inbox, inbox) : null;
    this.positions.ackAgain();
    const leaves = [...this.#left].sort().map((group) => JSON.stringify({ t: "leave", group }));
    const joins = this.#wanted().map((group) => this.#joinText(group));
    const told = [...(gap ? [{ gap }] : []), ...this.#tooOld(now)];
    return [[...leaves, ...joins, ...this.outbox.texts(), ...this.acks()], told];
  }

  /** Give up what might be in the log twice if it were written again. Returns the errors that nobody waits for. */
  #tooOld(now) {
    return this.outbox.dropWrittenBefore(now - SURE * this.#dedupS).flatMap(({ id, receipt, written }) => {
      const error = new Unconfirmed(id, now - written);
      const told = receipt.awaited ? [] : [{ error }];
      receipt.fail(error);
      return told;
    });
  }

  /** The groups to be in: those that were joined, and those in which the client has a place. */
  #wanted() {
    const placed = this.positions.channels().filter((ch) => ch.startsWith("g:")).map((ch) => ch.slice(2));
    return [...new Set([...this.groups.keys(), ...placed])].filter((group) => !this.#refused.has(group));
  }

  /** The connection in use is gone. */
  lost(code) {
    this.open = false;
    for (const entry of this.outbox.dropVolatile()) {
      entry.receipt.fail(new Unavailable("the node", "the connection broke before the ok"));
    }
    const entries = this.outbox.entries();
    if (code === CLOSE_CODES.TOO_BIG && entries.length) {
      const { id } = entries.reduce((a, b) => (b.text.length > a.text.length ? b : a));
      this.#refuse(id, new FrameRefused("too_big", "the node closed the connection over it", id));
    }
  }

  /** The wait that a held message asked for is over: [the frames to write, what to tell]. `now` in unix seconds. */
  again(now) {
    this.held = false;
    const told = this.#tooOld(now);
    return [this.open ? this.outbox.texts() : [], told];
  }

  /** There will be no further connection. */
  end(error) {
    this.open = false;
    for (const receipt of [...this.outbox.clear().map((entry) => entry.receipt), ...[...this.groups.values()].flat()]) {
      receipt.fail(error);
    }
    this.groups.clear();
  }

  /** What one frame means to the application: [{message} | {gap} | {held} | {behind} | {error}, ...]. */
  hear(frame) {
    switch (frame.t) {
      case "msg": return this.#message(frame);
      case "ok": return this.#ok(frame);
      case "error": return this.#error(frame);
      case "joined": return this.#joined(frame);
      case "position": return this.#position(frame);
      case "left": return this.#leftGroup(frame.group);
      default: return []; // a newer node's
    }
  }

  #leftGroup(group) {
    if (this.#left.delete(group) || this.groups.get(group)?.length) return [];
    this.groups.delete(group); // we did not ask, nor to come back: the application took us out
    this.positions.forget(`g:${group}`);
    return [];
  }

  #message(frame) {
    const { ch, id, from, body, ts, gen = null, seq = null, was = null } = frame;
    const group = ch.startsWith("g:") ? ch.slice(2) : null;
    if (group !== null && this.#left.has(group)) return [];
    const message = { ch, id, from, body, ts, gen, seq, group };
    if (gen === null || seq === null) return [{ message }];
    const [verdict, gap] = this.positions.take(ch, gen, seq, was);
    if (verdict === "ahead") return [{ behind: ch }];
    return [...(gap ? [{ gap }] : []), ...(verdict === "new" ? [{ message }] : [])];
  }

  #position(frame) {
    const gap = this.positions.continues(frame.ch, frame);
    return gap ? [{ gap }] : [];
  }

  #ok(frame) {
    this.outbox.settle(frame.id)?.receipt.settle(frame.seq ?? null);
    return [];
  }

  #error(frame) {
    const { id = null, group = null } = frame;
    const error = new FrameRefused(frame.code, frame.message ?? "", id);
    if (error.code === RETRYABLE && id !== null && this.outbox.durable(id)) {
      this.held = true;
      return [{ held: error }];
    }
    if (group !== null) return this.#joinRefused(group, error);
    // Of a second copy of a message that has its answer, a refusal for the time being says nothing.
    return id !== null && (this.#refuse(id, error) || error.code === RETRYABLE) ? [] : [{ error }];
  }

  #joinRefused(group, error) {
    const waiting = this.groups.get(group) ?? [];
    this.groups.delete(group);
    for (const receipt of waiting) receipt.fail(error);
    this.#refused.add(group);
    const told = waiting.length ? [] : [{ error }];
    return this.positions.refused(`g:${group}`) ? [...told, { behind: `g:${group}` }] : told;
  }

  #refuse(id, error) {
    const entry = this.outbox.settle(id);
    entry?.receipt.fail(error);
    return entry !== null;
  }

  #joined(frame) {
    const { group, gen, seq, unread = 0, recovered = true, oldest = null } = frame;
    if (this.#left.has(group)) return [];
    this.#refused.delete(group);
    const waiting = this.groups.get(group) ?? [];
    const gap = this.positions.answered(`g:${group}`, frame);
    this.groups.set(group, waiting);
    if (this.positions.asked(`g:${group}`)) return []; // the node's own, from where the user has read
    this.groups.set(group, []);
    for (const receipt of waiting) receipt.settle({ group, gen, seq, unread, recovered, oldest });
    return gap ? [{ gap }] : [];
  }
}

// The client.

const ACK_EVERY_S = 0.5;
const ANSWER_TIMEOUT_S = 30;
const steadyNow = () => performance.now() / 1000;
const unixNow = () => Date.now() / 1000;

/** What send, publish and join return: the id now, the node's answer by `await`. */
export class Receipt {
  #error = null;
  #result = null;
  #wake = null;
  #waiting = null;
  #waiters = 0;
  done = false;

  constructor(id) {
    this.id = id;
  }

  settle(result) {
    this.#result = result;
    this.#finish();
  }

  fail(error) {
    this.#error = error;
    this.#finish();
  }

  #finish() {
    this.done = true;
    this.#wake?.();
  }

  /** Why it failed; null while there is no answer, and after an ok. */
  get error() {
    return this.#error;
  }

  /** Whether somebody waits for the result now. */
  get awaited() {
    return this.#waiters > 0;
  }

  /** Resolves when the answer is there, good or bad. */
  settled() {
    this.#waiting ??= this.done ? Promise.resolve() : new Promise((wake) => (this.#wake = wake));
    return this.#waiting;
  }

  /** The answer: the message's seq (null where it has none), or what `joined` said. */
  async result(timeoutS = ANSWER_TIMEOUT_S) {
    this.#waiters += 1;
    const late = () => new Error(`no ok for ${this.id} within ${timeoutS} s; it is kept`);
    await within(this.settled(), timeoutS, late).finally(() => (this.#waiters -= 1));
    if (this.#error) throw this.#error;
    return this.#result;
  }

  // A thenable, not a promise: nobody is forced to handle the failure of a message they only sent.
  then(onResult, onError) {
    return this.result().then(onResult, onError);
  }
}

const isText = (value) => typeof value === "string";
const isInt = Number.isInteger;
const isRoute = (body) => isText(body?.url) && isText(body.node) && isInt(body.gen) && isInt(body.epoch);

/** Throws where a field is missing, or not what it should be. */
function check(frame, fields) {
  const wrong = Object.keys(fields).find((name) => !fields[name](frame[name]));
  if (wrong) throw new TypeError(`${wrong} of ${frame.t} is ${shown(frame[wrong])}`);
}

async function within(promise, timeoutS, makeError) {
  if (timeoutS === null || timeoutS === Infinity) return promise;
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(makeError()), timeoutS * 1000)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Keeps positions in `localStorage`, so that a reloaded page goes on where it was. */
export function localStoragePositions(key, storage = globalThis.localStorage) {
  return {
    load() {
      try {
        return JSON.parse(storage.getItem(key) ?? "{}");
      } catch {
        return {}; // not ours: start from the server's read cursor
      }
    },
    save: (positions) => storage.setItem(key, JSON.stringify(positions)),
  };
}

export class Client {
  #options;
  #WebSocket;
  #machine;
  #talk;
  #connections = new Map();
  #pending = new Map(); // how to cancel waits and routes under way, by stamp
  #live = null;
  #timers = new Map();
  #messages = [];
  #pumping = false;
  #handed = null;
  #wakers = [];
  #cause = null;
  #error = null;
  #retries = 0;
  #leaving = () => this.#dueAcks(); // the page may be gone before the next acks are due

  constructor(lookup, uid, options = {}) {
    this.uid = validateUid(uid);
    this.lookups = validateLookups(lookup);
    this.#options = { autoAck: true, inboxLimit: 10000, openTimeoutS: 5, routeTimeoutS: 5, groups: [], ...options };
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new InvalidInput("WebSocket", null, "must be there", "before Node 22, pass the one of the package `ws`");
    }
    this.#machine = newMachine(this.lookups.length);
    const { outboxLimit, positions, groups } = this.#options;
    this.#talk = new Conversation(uid, { outboxLimit, saved: positions?.load() });
    if (typeof groups === "string") { // each of its letters would be a group
      throw new InvalidInput("groups", groups, "must be several names", `give ["${groups}"]`);
    }
    for (const group of groups) this.#talk.groups.set(validateUid(group, "group"), []);
  }

  get state() {
    return stateOf(this.#machine);
  }

  get node() {
    return this.#machine.liveNode;
  }

  get error() {
    return this.#error;
  }

  get lastProblem() {
    return this.#cause;
  }

  // What the application calls.

  /** Start; resolves when a node said welcome, rejects when it stopped for good or not within timeoutS. */
  async connect({ wait = true, timeoutS = 30 } = {}) {
    if (this.state === "idle") {
      if (this.#options.positions) globalThis.addEventListener?.("pagehide", this.#leaving);
      this.#feed({ on: "start" });
    }
    if (wait) {
      const settled = this.#until(() => ["open", "moving", "closed"].includes(this.state));
      await within(settled, timeoutS, () => this.#tooLate(timeoutS));
    }
    if (this.state === "closed") throw this.#ended();
  }

  /** No connection came about in time: what went wrong last, with each URL once. */
  #tooLate(timeoutS) {
    const [lookups, cause] = [this.lookups.join(", "), this.#cause];
    if (cause instanceof ConnectFailed) {
      return new ConnectFailed(lookups, cause.url === lookups ? cause.why : `${cause.url}: ${cause.why}`);
    }
    return new ConnectFailed(lookups, cause?.message ?? `nothing in ${timeoutS} s`);
  }

  /** A message to a user or several. Kept until the node's ok, and sent again on each new connection until then. */
  send(to, body, { volatile: isVolatile = false, id = null } = {}) {
    const receipt = this.#receipt(id);
    this.#write(this.#talk.send(to, body, receipt, isVolatile));
    return receipt;
  }

  /** A message to a group. */
  publish(group, body, { id = null } = {}) {
    const receipt = this.#receipt(id);
    this.#write(this.#talk.publish(group, body, receipt));
    return receipt;
  }

  /** A volatile message to every session of the cluster, for users with a role that may. */
  broadcast(body, { id = null } = {}) {
    const receipt = this.#receipt(id);
    this.#write(this.#talk.broadcast(body, receipt));
    return receipt;
  }

  /** Take part in a group, now and after each reconnect. */
  join(group, { from = null } = {}) {
    const receipt = this.#receipt(group);
    this.#write(this.#talk.join(group, receipt, from));
    return receipt;
  }

  leave(group) {
    this.#write(this.#talk.leave(group));
    this.#ackSoon(); // a kept place would bring the group back
  }

  /** The application is done with the message and with all before it in its channel. */
  ack(message) {
    if (message.gen === null || message.seq === null) return;
    this.#talk.positions.finish(message.ch, message.gen, message.seq);
    this.#ackSoon();
  }

  /** The next message; the one before it counts as done. */
  async receive(timeoutS = null) {
    if (this.#handed && this.#options.autoAck) this.ack(this.#handed);
    this.#handed = null;
    const late = () => new Error(`no message within ${timeoutS} s`);
    await within(this.#until(() => this.#messages.length || this.state === "closed"), timeoutS, late);
    if (!this.#messages.length) throw this.#ended();
    this.#handed = this.#messages.shift();
    this.#resumeReading();
    return this.#handed;
  }

  /** Messages until close(). Throws the error if the server ended it. */
  async *[Symbol.asyncIterator]() {
    while (true) {
      let message;
      try {
        message = await this.receive();
      } catch (error) {
        if (this.#error || !(error instanceof ClientClosed)) throw error;
        return;
      }
      yield message;
    }
  }

  /** Until everything sent so far has its answer. */
  async flush(timeoutS = 5) {
    const all = Promise.all(this.#talk.outbox.entries().map((entry) => entry.receipt.settled()));
    await within(all, timeoutS, () => new Error(`${this.#talk.outbox.size} messages have no ok after ${timeoutS} s`));
  }

  /** Stop for good. What has no ok fails with ClientClosed; `flush` first to wait for it. */
  async close() {
    if (this.state === "closed") return;
    this.#dueAcks();
    const closing = [...this.#connections.values()].map((connection) => connection.over);
    this.#feed({ on: "close" });
    await within(Promise.all(closing), 2, () => null).catch(() => {}); // a silent peer does not hold us
  }

  // The machine.

  #feed(event) {
    const [before, asked] = [this.state, this.lookups[this.#machine.lookup]];
    const [machine, actions] = step(this.#machine, event, steadyNow(), Math.random);
    this.#machine = machine;
    const cause = actions.length || this.state !== before ? this.#explain(event, asked) : null;
    this.#cause = cause ?? this.#cause;
    for (const action of actions) this.#do(action);
    if (this.state !== before) this.#changed(cause);
  }

  #do(action) {
    switch (action.do) {
      case "resolve": this.#sayMoving(); this.#resolve(action); break;
      case "connect": this.#sayMoving(); this.#connect(action); break;
      case "wait": this.#wait(action); break;
      case "adopt": this.#adopt(action.stamp); break;
      case "drop": this.#drop(action.stamp); break;
      case "stop": {
        const { code, reason, message } = action;
        this.#error = code >= 1000 ? new ClosedByServer(code, reason) : new RouteRefused(code, reason, message);
      }
    }
  }

  /** Have the node wait, if there is one that we are leaving. */
  #sayMoving() {
    if (this.#machine.live) this.#write(['{"t":"moving"}']);
  }

  /** The error an event stands for; `asked`: the lookup, if it is one's answer. */
  #explain(event, asked) {
    if (this.#machine.hops > MAX_HOPS && this.state === "waiting") return new TooManyHops(this.#machine.hops);
    if (event.on === "lost") {
      const { code, reason } = event;
      if (code !== BROKEN) return new ClosedByServer(code, reason);
      return new ConnectFailed(this.#machine.node || "the node", reason || "the connection broke");
    }
    if (event.on === "lookup_failed") {
      if (event.status) return new RouteRefused(event.status, event.code, event.message);
      return new ConnectFailed(asked, event.message);
    }
    return event.on === "close" ? new ClientClosed() : null;
  }

  #ended() {
    return this.#error ?? new ClientClosed();
  }

  #changed(cause) {
    if (this.state === "closed") {
      for (const timer of this.#timers.values()) clearTimeout(timer);
      this.#timers.clear();
      globalThis.removeEventListener?.("pagehide", this.#leaving);
      this.#talk.end(this.#ended());
    }
    this.#wake();
    this.#tell(this.#options.onState, this.state, cause);
  }

  async #resolve({ stamp, lookup, min_epoch: epoch, avoid }) {
    const cancel = new AbortController();
    const { routeTimeoutS } = this.#options;
    this.#pending.set(stamp, () => cancel.abort());
    const late = setTimeout(() => cancel.abort(new Error(`no answer within ${routeTimeoutS} s`)), routeTimeoutS * 1000);
    const over = new Promise((_, reject) => (cancel.signal.onabort = () => reject(cancel.signal.reason)));
    let event;
    try {
      const answer = this.#ask(stamp, this.lookups[lookup], epoch, avoid, cancel.signal);
      event = await Promise.race([answer, over]); // of all that is waited for, the token does not know the signal
    } catch (error) {
      event = { on: "lookup_failed", stamp, status: 0, retry_after: 0, code: "unreachable", message: String(error) };
    } finally {
      clearTimeout(late);
      this.#pending.delete(stamp);
    }
    this.#feed(event);
  }

  async #ask(stamp, lookup, epoch, avoid, signal) {
    const { token } = this.#options;
    const bearer = typeof token === "function" ? await token() : token;
    const wanted = { uid: this.uid, ...(epoch && { min_epoch: epoch }), ...(avoid && { avoid }) };
    const query = Object.entries(wanted).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
    const answer = await fetch(`${lookup.replace(/\/+$/, "")}/route?${query}`, { headers, signal, cache: "no-store" });
    const body = await answer.json().catch(() => null);
    if (answer.status === 200 && isRoute(body)) {
      const { url, node, gen, epoch: at, connect_after_ms: after = 0 } = body;
      return { on: "routed", stamp, url, node, gen, epoch: at, connect_after_ms: after };
    }
    const status = answer.status < 400 ? 502 : answer.status; // not a lookup, or a proxy's page: the next lookup may do better
    const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
    const { error: code = "bad_answer", message = "not a route" } = body ?? {};
    return { on: "lookup_failed", stamp, status, retry_after: retryAfter, code, message };
  }

  #wait({ stamp, delay_s: delayS }) {
    const timer = setTimeout(() => {
      this.#pending.delete(stamp);
      this.#feed({ on: "timer", stamp });
    }, delayS * 1000);
    this.#pending.set(stamp, () => clearTimeout(timer));
  }

  #connect({ stamp, url, within_s: withinS }) {
    const connection = {
      stamp, ws: null, inbox: {}, liveness: null, welcomed: false, pace: null, dedupS: DEDUP_S, outgoing: [],
    };
    connection.over = new Promise((over) => (connection.isOver = over));
    this.#connections.set(stamp, connection);
    try {
      connection.ws = new this.#WebSocket(this.#talk.url(url), "ringway.v1");
    } catch (error) { // a URL that is none, or a mixed-content rule
      setTimeout(() => this.#over(connection, BROKEN, String(error)), 0);
      return;
    }
    const openS = Math.max(this.#options.openTimeoutS, withinS);
    connection.late = setTimeout(() => this.#giveUp(connection, "no welcome in time"), openS * 1000);
    connection.ws.onmessage = (event) => this.#heard(connection, event.data);
    connection.ws.onerror = (event) => (connection.why = event.message ?? "");
    connection.ws.onclose = (event) => this.#over(connection, event.code, event.reason || connection.why || "");
  }

  #adopt(stamp) {
    const connection = (this.#live = this.#connections.get(stamp));
    this.#retries = 0;
    const [texts, told] = this.#talk.opened(connection.inbox, unixNow(), connection.dedupS);
    for (const name of ["watch", "pace"]) {
      clearTimeout(this.#timers.get(name));
      this.#timers.delete(name);
    }
    this.#write(texts);
    this.#report(told);
    this.#watch();
    if (this.#options.positions) this.#ackSoon();
  }

  #drop(stamp) {
    this.#pending.get(stamp)?.();
    this.#pending.delete(stamp);
    const connection = this.#connections.get(stamp);
    clearTimeout(connection?.late);
    connection?.ws?.close(1000); // what it still brings until the close is answered is heard
  }

  // A connection's life.

  #heard(connection, text) {
    connection.liveness?.heard(steadyNow());
    let happenings;
    try {
      const frame = JSON.parse(text);
      if (!connection.welcomed) {
        if (frame.t === "welcome") this.#welcome(connection, frame);
        return;
      }
      if (frame.t === "move") {
        check(frame, { url: isText, gen: isInt, epoch: isInt });
        const { node = "", url, gen, epoch, deadline_ms: ms = 0 } = frame;
        this.#feed({ on: "move", stamp: connection.stamp, node, url, gen, epoch, deadline_ms: ms });
        return;
      }
      happenings = this.#talk.hear(frame);
      if (this.#talk.positions.due) this.#ackSoon();
    } catch (error) {
      if (error instanceof IllegalEvent) throw error;
      const what = `the node sent ${String(text).slice(0, 80)}: ${error}`;
      if (!connection.welcomed) {
        this.#giveUp(connection, what);
        return;
      }
      happenings = [{ error: new FrameRefused("bad_frame", what) }];
    }
    for (const happening of happenings) {
      const { message, held, behind } = happening;
      if (message) this.#deliver(message);
      else if (behind) this.#giveUp(connection, `a message of ${behind} is missing`, CLOSE_CODES.GAP);
      else if (held) this.#hold();
      else this.#report([happening]);
    }
  }

  /** Tell the application of anything but messages. */
  #report(happenings) {
    for (const { gap, error } of happenings) {
      if (gap) this.#reportGap(gap);
      else this.#tell(this.#options.onError, error);
    }
  }

  #welcome(connection, frame) {
    check(frame, { node: isText, gen: isInt, epoch: isInt });
    const { node, gen, epoch, resume = "" } = frame;
    clearTimeout(connection.late);
    connection.welcomed = true;
    connection.inbox = frame.inbox ?? {};
    connection.liveness = new Liveness(frame.ping_s, steadyNow());
    connection.pace = new Pace(frame.rate);
    connection.dedupS = frame.dedup_s || DEDUP_S;
    this.#feed({ on: "welcome", stamp: connection.stamp, node, gen, epoch, resume });
  }

  /** A peer that is silent may take minutes to close: it is over now, whatever comes later. */
  #giveUp(connection, why, code = BROKEN) {
    const { ws } = connection;
    ws.onmessage = ws.onclose = null;
    ws.onerror = () => {}; // npm's ws raises what nobody listens to
    if (ws.terminate) ws.terminate();
    else ws.close(1000);
    this.#over(connection, code, why);
  }

  #over(connection, code, reason) {
    if (!this.#connections.delete(connection.stamp)) return;
    clearTimeout(connection.late);
    connection.isOver();
    if (connection === this.#live) {
      this.#live = null;
      this.#talk.lost(code);
    }
    this.#feed({ on: "lost", stamp: connection.stamp, code: code === 1005 ? BROKEN : code, reason });
  }

  #watch() {
    const connection = this.#live;
    if (!connection) return;
    const now = steadyNow();
    if (connection.liveness.dead(now)) {
      this.#giveUp(connection, "no answer to ping");
      return;
    }
    if (connection.liveness.pingDue(now)) this.#write(['{"t":"ping"}']);
    this.#later("watch", () => connection.liveness.nextS(now), () => this.#watch());
  }

  #deliver(message) {
    this.#messages.push(message);
    if (this.#options.onMessage) this.#pump();
    else this.#wake();
    // Node's ws can pause; a browser cannot, and queues what the application does not take.
    if (this.#messages.length >= this.#options.inboxLimit && this.#live?.ws.pause) {
      this.#live.liveness.pause();
      this.#live.ws.pause();
    }
  }

  /** Calls onMessage, one message at a time; a promise it returns is waited for. */
  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#messages.length) {
      const [message] = this.#messages;
      try {
        const promise = this.#options.onMessage(message);
        if (promise?.then) await promise;
      } catch (error) {
        console.error("ringway: onMessage failed", error);
      }
      this.#messages.shift();
      this.#resumeReading();
      if (this.#options.autoAck) this.ack(message);
    }
    this.#pumping = false;
  }

  #resumeReading() {
    if (this.#messages.length >= this.#options.inboxLimit || !this.#live?.ws.resume) return;
    this.#live.liveness.resume(steadyNow());
    this.#live.ws.resume();
  }

  // Small things.

  #receipt(id) {
    if (this.state === "closed") throw this.#ended();
    return new Receipt(id ?? this.#talk.newId());
  }

  #write(texts) {
    this.#live?.outgoing.push(...texts);
    this.#flushWrites();
  }

  /** Write what is queued, as fast as the node allows. */
  #flushWrites() {
    const live = this.#live;
    while (live?.outgoing.length && live.ws.readyState === 1) {
      const waitS = live.pace.take(steadyNow());
      if (waitS > 0) {
        this.#later("pace", () => waitS, () => this.#flushWrites());
        return;
      }
      const text = live.outgoing.shift();
      this.#talk.outbox.wrote(text, unixNow());
      live.ws.send(text);
    }
  }

  /** Write no message more until it is time to say all again: one that still waits would overtake the refused one. */
  #hold() {
    if (this.#live?.outgoing.length) {
      const held = new Set(this.#talk.outbox.texts());
      this.#live.outgoing = this.#live.outgoing.filter((text) => !held.has(text));
    }
    this.#later("retry", () => this.#retryDelayS(), () => this.#sayAgain());
  }

  #sayAgain() {
    const [texts, told] = this.#talk.again(unixNow());
    this.#write(texts);
    this.#report(told);
  }

  #ackSoon() {
    this.#later("ack", () => ACK_EVERY_S, () => this.#dueAcks());
  }

  #dueAcks() {
    this.#write(this.#talk.acks());
    const { positions } = this.#options;
    if (positions) this.#tell((saved) => positions.save(saved), this.#talk.positions.saved());
  }

  #retryDelayS() {
    return fullJitter(++this.#retries, Math.random, 0.2, 5);
  }

  #reportGap(gap) {
    this.#tell(this.#options.onGap ?? ((lost) => console.warn("ringway: messages are gone for good", lost)), gap);
  }

  #later(name, delayS, call) {
    if (this.#timers.has(name) || this.state === "closed") return;
    const run = () => {
      this.#timers.delete(name);
      call();
    };
    this.#timers.set(name, setTimeout(run, delayS() * 1000));
  }

  #until(holds) {
    return new Promise((resolve) => {
      const look = () => holds() && (resolve(), true);
      if (!look()) this.#wakers.push(look);
    });
  }

  #wake() {
    this.#wakers = this.#wakers.filter((look) => !look());
  }

  #tell(callback, ...values) {
    try {
      callback?.(...values);
    } catch (error) {
      console.error("ringway: a callback failed", error);
    }
  }
}
