// The pure parts against the vectors that Python is run through as well.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  CLOSE_CODES, Conversation, IllegalEvent, InvalidInput, Liveness, OTHERWISE, Outbox, Positions, RANGES, SendBufferFull, TRANSITIONS,
  actionFor, newMachine, parseReason, stateOf, step,
} from "../../client_sdk/js/ringway.js";

const vector = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url)));

for (const scenario of vector("machine")) {
  test(`machine: ${scenario.name}`, () => {
    let machine = newMachine(scenario.lookups);
    for (const [number, wanted] of scenario.steps.entries()) {
      let actions;
      [machine, actions] = step(machine, wanted.event, wanted.now, () => scenario.random);
      assert.equal(stateOf(machine), wanted.state, `step ${number}`);
      const rounded = (list) => list.map((a) => (a.do === "wait" ? { ...a, delay_s: a.delay_s.toFixed(9) } : a));
      assert.deepEqual(rounded(actions), rounded(wanted.actions), `step ${number}`);
    }
  });
}

test("machine: an event that the state does not know throws and changes nothing", () => {
  const [closed] = step(newMachine(), { on: "close" }, 0, Math.random);
  assert.throws(() => step(closed, { on: "start" }, 0, Math.random), IllegalEvent);
  assert.ok(Object.isFrozen(closed));
});

test("machine: the table allows no state that it does not know", () => {
  const states = Object.keys(TRANSITIONS);
  for (const events of Object.values(TRANSITIONS)) {
    for (const afters of Object.values(events)) assert.ok(afters.every((after) => states.includes(after)));
  }
});

for (const scenario of vector("positions")) {
  test(`positions: ${scenario.name}`, () => {
    const positions = new Positions(scenario.saved);
    for (const [number, { call, args, gives }] of scenario.steps.entries()) {
      const name = call === "ack_again" ? "ackAgain" : call;
      assert.deepEqual(positions[name](...args) ?? null, gives, `step ${number}: ${call}`);
    }
  });
}

// One step of a scenario: [what it says, what it tells, what it gives].
const CONVERSE = {
  open: (talk, { inbox, now = 0, dedup_s: dedupS = 3600 }) => talk.opened(inbox, now, dedupS),
  send: (talk, _step, receipt) => [talk.send("bob", 1, receipt)],
  again: (talk, { now }) => talk.again(now),
  join: (talk, { group, from = null }, receipt) => [talk.join(group, receipt, from)],
  leave: (talk, { group }) => [talk.leave(group)],
  hear: (talk, { frame }) => [[], talk.hear(frame)],
  lost: (talk, { code }) => void talk.lost(code) ?? [],
  finish: (talk, { args }) => void talk.positions.finish(...args) ?? [],
  acks: (talk) => [talk.acks()],
  saved: (talk) => [[], [], talk.positions.saved()],
};

function plain({ message, gap, behind, held, error }) {
  if (message) return ["message", message.ch, message.seq];
  if (gap) return ["gap", gap.ch, gap.oldest];
  if (behind) return ["behind", behind];
  return held ? ["held"] : ["error", error.constructor.name];
}

for (const scenario of vector("conversation")) {
  test(`conversation: ${scenario.name}`, () => {
    const talk = new Conversation("alice", { outboxLimit: 10, saved: scenario.saved });
    let settles;
    for (const [number, step] of scenario.steps.entries()) {
      settles = {};
      const answer = (word) => {
        assert.ok(!(step.receipt in settles));
        settles[step.receipt] = word;
      };
      const { receipt: id, waits: awaited = false } = step;
      const receipt = { id, awaited, settle: () => answer("ok"), fail: (error) => answer(error.constructor.name) };
      if (step.throws) {
        assert.throws(() => CONVERSE[step.do](talk, step, receipt), { field: step.throws });
        continue;
      }
      const [says = [], tells = [], gives = null] = CONVERSE[step.do](talk, step, receipt);
      if ("wrote" in step) says.forEach((text) => talk.outbox.wrote(text, step.wrote));
      const got = { says: says.map((text) => JSON.parse(text)), tells: tells.map(plain), settles, gives };
      const { says: s = [], tells: t = [], settles: a = {}, gives: g = null } = step;
      assert.deepEqual(got, { says: s, tells: t, settles: a, gives: g }, `step ${number}: ${step.do}`);
    }
  });
}

function say({ say: verb, to, group, id }, body) {
  const talk = new Conversation("alice");
  talk.opened({ gen: "g", seq: 0 }, 0);
  talk[verb](...(verb === "broadcast" ? [] : [verb === "publish" ? group : to]), body, { id });
  return talk;
}

function nested(levels) {
  let body = [];
  for (let level = 1; level < levels; level++) body = [body];
  return body;
}

for (const said of vector("sayings")) {
  test(`sayings: ${said.name}`, () => {
    const body = said.levels ? nested(said.levels) : said.body;
    const wrong = (error) => error instanceof InvalidInput && error.field === said.throws;
    if (said.throws) assert.throws(() => say(said, body), wrong);
    else assert.deepEqual(JSON.parse([...say(said, body).outbox.entries()][0].text).body, body);
  });
}

const circle = {};
circle.circle = circle;
for (const body of [undefined, () => 1, Symbol("s"), 1n, circle]) {
  test(`sayings: what JavaScript has and JSON has not is no body: ${typeof body}`, () => {
    assert.throws(() => say({ say: "send", to: "bob", id: "1" }, body), InvalidInput);
  });
}

test("close codes: the table, the policy and the reasons are those of the core", () => {
  const core = vector("close_codes");
  assert.deepEqual({ ...CLOSE_CODES }, core.codes);
  assert.deepEqual(RANGES, core.ranges);
  assert.equal(OTHERWISE, core.otherwise);
  for (const [code, action] of Object.entries(core.actions)) assert.equal(actionFor(Number(code)), action, code);
  for (const [text, spreadMs, epoch] of core.reasons) assert.deepEqual(parseReason(text), { spreadMs, epoch }, text);
});

test("outbox: in order, bounded, volatile ones never again", () => {
  const outbox = new Outbox(3);
  for (const id of ["a", "v", "b"]) outbox.add({ id, text: `text ${id}`, receipt: id, volatile: id === "v" });
  assert.throws(() => outbox.add({ id: "c" }), SendBufferFull);
  assert.deepEqual(outbox.texts(), ["text a", "text b"]);
  assert.deepEqual(outbox.dropVolatile().map((entry) => entry.id), ["v"]);
  assert.equal(outbox.settle("a").receipt, "a");
  assert.equal(outbox.settle("a"), null);
  assert.equal(outbox.size, 1);
});

test("liveness: pings once, then takes silence for death, and asks before it judges", () => {
  const liveness = new Liveness(25, 0);
  assert.equal(liveness.pingDue(24), false);
  assert.equal(liveness.dead(3600), false);
  assert.equal(liveness.pingDue(3600), true);
  assert.equal(liveness.pingDue(3601), false);
  assert.equal(liveness.dead(3609), false);
  assert.equal(liveness.dead(3610), true);
  liveness.heard(3610);
  assert.equal(liveness.dead(3611), false);
  assert.equal(liveness.nextS(3610), 25);
});

test("liveness: silence while nothing is read says nothing", () => {
  const liveness = new Liveness(25, 0);
  assert.equal(liveness.pingDue(25), true);
  liveness.pause();
  assert.equal(liveness.dead(3600), false);
  assert.equal(liveness.pingDue(3600), false);
  assert.equal(liveness.nextS(3600), 25);
  liveness.resume(3600);
  assert.equal(liveness.dead(3600), false);
  assert.equal(liveness.pingDue(3625), true);
  assert.equal(liveness.dead(3635), true);
});

test("conversation: says again what had no ok, joins first, and holds back while the log is away", () => {
  const talk = new Conversation("alice");
  const receipt = (id) => ({ id, settle: () => {}, fail: () => {} });
  const inbox = { gen: "g", seq: 0, unread: 0, recovered: true };
  const kinds = (texts) => texts.map((text) => JSON.parse(text).t);
  assert.deepEqual(talk.send("bob", 1, receipt("m1")), []);
  talk.join("room", receipt("room"));
  assert.deepEqual(kinds(talk.opened(inbox, 0)[0]), ["join", "send"]);
  assert.ok(talk.hear({ t: "error", id: "m1", code: "unavailable", message: "" })[0].held);
  assert.deepEqual(talk.publish("room", 2, receipt("m2")), []);
  assert.deepEqual(kinds(talk.again(0)[0]), ["send", "publish"]);
  talk.lost(1006);
  assert.deepEqual(kinds(talk.opened(inbox, 0)[0]), ["join", "send", "publish"]);
  talk.hear({ t: "msg", ch: "u:alice", id: "x", from: "bob", body: 1, ts: 1, gen: "g", seq: 1 });
  assert.equal(talk.url("ws://n1/ws?ticket=t"), "ws://n1/ws?ticket=t&inbox=g:1");
  assert.deepEqual(talk.hear({ t: "msg", ch: "u:alice", id: "y", from: "bob", body: 1, ts: 1, gen: "g", seq: 3 }), [{ behind: "u:alice" }]);
});
