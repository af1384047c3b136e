// The client against the scripted peer, over real sockets.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { afterEach, beforeEach, test } from "node:test";
import WebSocket from "ws";
import * as ringway from "../../client_sdk/js/ringway.js";
import { connect as snippet } from "../../client_sdk/js/snippet.js";
import { Cluster, until } from "./cluster.js";

let cluster;
let clients;

beforeEach(async () => {
  cluster = await Cluster.start();
  clients = [];
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await cluster.stop();
});

async function connected(uid, options = {}) {
  const client = new ringway.Client(cluster.urls, uid, { WebSocket, ...options });
  clients.push(client);
  await client.connect({ timeoutS: 10 });
  return client;
}

test("two users exchange messages and each send gets its seq", async () => {
  const [alice, bob] = [await connected("alice"), await connected("bob")];
  assert.equal(await alice.send("bob", { text: "hello" }), 1);
  const message = await bob.receive(5);
  assert.deepEqual([message.from, message.body, message.seq, message.group], ["alice", { text: "hello" }, 1, null]);
  assert.equal((await bob.join("room")).recovered, true);
  await alice.publish("room", "hi");
  assert.equal((await bob.receive(5)).group, "room");
  assert.equal(await alice.send("bob", "now", { volatile: true }), null);
  assert.equal((await bob.receive(5)).seq, null);
  assert.equal(await alice.broadcast("to all"), null);
  for (const each of [await alice.receive(5), await bob.receive(5)]) {
    assert.deepEqual([each.ch, each.body, each.seq], ["*", "to all", null]);
  }
  bob.leave("room");
  await assert.rejects(alice.send("bob", "forbidden").result(), ringway.FrameRefused);
  await assert.rejects(alice.join("secret").result(), ringway.FrameRefused);
  assert.deepEqual([alice.state, alice.node], ["open", "n1"]);
});

test("iterating ends when the client is closed", async () => {
  const alice = await connected("alice");
  for (let number = 0; number < 3; number++) alice.send("alice", number);
  const got = [];
  for await (const message of alice) {
    got.push(message.body);
    if (got.length === 3) await alice.close();
  }
  assert.deepEqual(got, [0, 1, 2]);
  assert.throws(() => alice.send("bob", 1), ringway.ClientClosed);
  await assert.rejects(alice.connect(), ringway.ClientClosed);
});

test("a move makes before it breaks", async () => {
  const got = [];
  const states = [];
  const alice = await connected("alice", {
    onMessage: (m) => got.push(m.body), onState: (state) => states.push(state), groups: ["room"],
  });
  await alice.send("alice", 1);
  await cluster.call("move", "n2");
  await until(() => alice.node === "n2");
  await alice.send("alice", 2);
  await alice.publish("room", 3);
  await until(() => got.length === 3);
  await until(async () => (await cluster.seen()).sessions.n1 === 0);
  const seen = await cluster.seen();
  assert.deepEqual(got, [1, 2, 3]);
  assert.deepEqual(states.slice(-2), ["moving", "open"]);
  assert.equal(seen.handshakes.at(-1).inbox, "log1:1");
  assert.deepEqual(seen.closes, [{ node: "n1", code: 1000 }]);
  assert.equal(seen.routes.length, 1);
});

test("a move has as long as the node said, and the node hears that it is under way", async () => {
  const states = [];
  const alice = await connected("alice", { openTimeoutS: 0.3, onState: (state) => states.push(state) });
  await cluster.call("greet", "n2", "late", 1);
  await cluster.call("move", "n2");
  await until(() => alice.node === "n2");
  const seen = await cluster.seen();
  assert.deepEqual(states.slice(-2), ["moving", "open"]);
  assert.equal(seen.handshakes.length, 2);
  assert.deepEqual(seen.heard.filter((frame) => frame.t === "moving").map((frame) => frame.node), ["n1"]);
});

test("a move that fails keeps the old connection and asks for a route", async () => {
  const alice = await connected("alice");
  await cluster.call("greet", "n2", "drop");
  await cluster.call("move", "n2");
  await alice.send("alice", "meanwhile");
  await until(() => alice.node === "n2");
  assert.equal((await alice.receive(5)).body, "meanwhile");
});

test("messages sent during moves and drops arrive once and in order", async () => {
  const got = [];
  const alice = await connected("alice");
  await connected("bob", { onMessage: (m) => got.push(m.body) });
  const wanted = Array.from({ length: 300 }, (_, number) => number);
  let owner = "n1";
  for (const number of wanted) {
    alice.send("bob", number);
    if (number % 60 === 30) {
      owner = owner === "n1" ? "n2" : "n1";
      await cluster.call("move", owner);
    }
    if (number % 90 === 45) await cluster.call("drop_all", owner);
    if (number % 5 === 0) await new Promise((wake) => setTimeout(wake, 5));
  }
  await alice.flush(10);
  await until(() => got.length >= wanted.length);
  assert.deepEqual(got, wanted);
});

for (const code of [4300, 4301, 4302]) {
  test(`${code} asks for a route with the newest epoch`, async () => {
    const alice = await connected("alice");
    await cluster.call("change_owner", "n2");
    await cluster.call("close_all", "n1", code, 50, 2);
    await until(() => alice.node === "n2" && alice.state === "open");
    assert.equal((await cluster.seen()).routes.at(-1).min_epoch, "7.2");
  });
}

for (const code of [1000, 4001, 4009]) {
  test(`${code} stops and says why`, async () => {
    const alice = await connected("alice");
    await cluster.call("close_all", "n1", code);
    await assert.rejects(alice.receive(5), { name: "ClosedByServer", code });
    assert.throws(() => alice.send("bob", 1), ringway.ClosedByServer);
    assert.equal(alice.error.code, code);
  });
}

test("a broken connection returns to the same node with the resume ticket", async () => {
  const alice = await connected("alice");
  await cluster.call("drop_all", "n1");
  await until(async () => (await cluster.seen()).handshakes.length === 2 && alice.state === "open");
  assert.equal((await cluster.seen()).routes.length, 1);
});

test("a dead node is avoided and the client is back in time", async () => {
  const alice = await connected("alice");
  const started = Date.now();
  await cluster.call("kill", "n1");
  assert.equal(await alice.send("alice", "kept"), 1);
  assert.ok(Date.now() - started < 3000);
  assert.equal(alice.node, "n2");
  assert.equal((await cluster.seen()).routes.at(-1).avoid, "n1");
});

test("a refusal of the lookup stops, and Retry-After is honoured", async () => {
  await cluster.call("answer", 0, 403, {}, { error: "forbidden", message: "not you" });
  const refused = new ringway.Client(cluster.urls, "alice", { WebSocket, token: async () => "secret" });
  await assert.rejects(refused.connect(), { name: "RouteRefused", status: 403, code: "forbidden" });
  assert.equal((await cluster.seen()).routes[0].authorization, "Bearer secret");
  await cluster.call("answer", 0, 503, { "Retry-After": "1" }, { error: "no_node", message: "not yet" });
  const started = Date.now();
  await connected("alice");
  assert.ok(Date.now() - started >= 1000);
});

test("a token that never comes is a lookup that failed, and the text says so once", async () => {
  let token = new Promise(() => {});
  const client = new ringway.Client(cluster.urls, "alice", { WebSocket, token: () => token, routeTimeoutS: 0.2 });
  clients.push(client);
  const [url] = cluster.urls;
  const message = `could not connect to ${url}: Error: no answer within 0.2 s`;
  await assert.rejects(client.connect({ timeoutS: 0.4 }), { name: "ConnectFailed", message });
  token = "secret";
  await client.connect();
  assert.deepEqual((await cluster.seen()).routes.map((route) => route.authorization), ["Bearer secret"]);
});

test("a lookup that cannot be reached is named once", async () => {
  const two = [...cluster.urls, "http://127.0.0.1:1"];
  await cluster.call("kill_lookup", 0);
  for (const urls of [two.slice(0, 1), two]) {
    const client = new ringway.Client(urls, "alice", { WebSocket });
    clients.push(client);
    const named = (error) => urls.every((url) => error.message.split(url).length <= 3) && error.message.split("could").length === 2;
    await assert.rejects(client.connect({ timeoutS: 0.2 }), named);
  }
});

test("the next lookup is asked when one is dead", async () => {
  const two = await Cluster.start({ lookups: 2 });
  await two.call("kill_lookup", 0);
  for (let round = 0; round < 4; round++) {
    const client = new ringway.Client(two.urls, "alice", { WebSocket });
    await client.connect();
    await client.close();
  }
  await two.stop();
});

test("nothing is lost while the log is away", async () => {
  const got = [];
  const alice = await connected("alice");
  await connected("bob", { onMessage: (m) => got.push(m.body) });
  await cluster.call("set", "n1", "unavailable", true);
  for (let number = 0; number < 5; number++) alice.send("bob", number);
  await until(async () => (await cluster.seen()).heard.filter((frame) => frame.t === "send").length >= 5);
  await cluster.call("set", "n1", "unavailable", false);
  await alice.flush(10);
  await until(() => got.length === 5);
  assert.deepEqual(got, [0, 1, 2, 3, 4]);
});

test("what was kept goes out at the rate that the node allows", async () => {
  const got = [];
  await cluster.call("set", "n1", "rate", 100);
  const alice = new ringway.Client(cluster.urls, "alice", { WebSocket, onMessage: (m) => got.push(m.body) });
  clients.push(alice);
  for (let number = 0; number < 700; number++) alice.send("alice", number);
  await alice.connect();
  await alice.flush(20);
  await until(() => got.length === 700);
  assert.deepEqual(got, Array.from({ length: 700 }, (_, number) => number));
  assert.deepEqual((await cluster.seen()).closes, []);
});

test("what the log may no longer know is not sent again, and the application is told", async () => {
  const errors = [];
  await cluster.call("set", "n1", "mute_ok", true);
  await cluster.call("set", "n1", "dedup_s", 0.001);
  const alice = await connected("alice", { onError: (error) => errors.push(error) });
  const [waiting, alone] = [alice.send("bob", 1), alice.send("bob", 2)];
  const refused = assert.rejects(waiting.result(), { name: "Unconfirmed", id: waiting.id });
  const sent = async () => (await cluster.seen()).heard.filter((frame) => frame.t === "send").map((frame) => frame.body);
  await until(async () => (await sent()).length === 2);
  await cluster.call("drop_all", "n1");
  await refused;
  await assert.rejects(alone.result(), ringway.Unconfirmed);
  assert.deepEqual(errors, [alone.error]);
  await cluster.call("set", "n1", "mute_ok", false);
  await alice.send("bob", 3);
  assert.deepEqual(await sent(), [1, 2, 3]);
});

test("the outbox is bounded, and what has no ok at the end fails", async () => {
  await cluster.call("set", "n1", "mute_ok", true);
  const alice = await connected("alice", { outboxLimit: 2 });
  const receipts = [alice.send("bob", 1), alice.send("bob", 2)];
  assert.throws(() => alice.send("bob", 3), ringway.SendBufferFull);
  await assert.rejects(alice.flush(0.1));
  await alice.close();
  for (const receipt of receipts) await assert.rejects(receipt.result(), ringway.ClientClosed);
});

test("a silent node is left for another", async () => {
  await cluster.call("greet", "n1", "silent");
  const alice = await connected("alice", { openTimeoutS: 0.3 });
  assert.equal(alice.state, "open");
  assert.equal((await cluster.seen()).routes.at(-1).avoid, "n1");
});

for (const text of ["hello", "[]", "null", '{"t": "welcome"}', '{"t": "welcome", "node": 7, "gen": 7, "epoch": 1}',
  '{"t": "welcome", "node": "n1", "gen": "7", "epoch": 1}']) {
  test(`a node that says ${text} is left for another`, async () => {
    await cluster.call("greet", "n1", "say", text);
    const errors = [];
    await connected("alice", { onError: (error) => errors.push(error) });
    assert.equal((await cluster.seen()).routes.at(-1).avoid, "n1");
    assert.deepEqual(errors, []);
  });
}

for (const [status, body] of [[200, { hello: "I am a proxy" }], [200, { url: "ws://127.0.0.1:1" }], [202, {}], [302, {}]]) {
  test(`${status} ${JSON.stringify(body)} is no route and tried again`, async () => {
    await cluster.call("answer", 0, status, { Location: "http://127.0.0.1:1/login" }, body);
    await connected("alice");
    const { routes, handshakes } = await cluster.seen();
    assert.deepEqual([routes.length, routes.at(-1).avoid, handshakes.length], [2, undefined, 1]);
  });
}

test("an application that is slower than ping and pong keeps its connection", { timeout: 40000 }, async () => {
  await cluster.call("set", "n1", "ping_s", 0.2);
  const got = [];
  const slow = () => new Promise((wake) => setTimeout(wake, 11500)); // longer than ping and pong: the test's subject
  const onMessage = (m) => got.push(m.body) && (m.body === 0 ? slow() : null);
  await connected("alice", { inboxLimit: 2, onMessage });
  for (let number = 0; number < 5; number++) await cluster.call("push", "u:alice", number);
  await until(() => got.length === 5, 20);
  assert.equal((await cluster.seen()).handshakes.length, 1);
});

for (const frame of [{}, { url: 7, gen: 7, epoch: 2 }, { url: "ws://127.0.0.1:1", gen: "7", epoch: 2 }]) {
  test(`a move that says ${JSON.stringify(frame)} is no frame, and changes nothing`, async () => {
    const [states, errors] = [[], []];
    const options = { onState: (state) => states.push(state), onError: (error) => errors.push(error.code) };
    const alice = await connected("alice", options);
    await cluster.call("say", "n1", { t: "move", ...frame });
    await until(() => errors.length === 1);
    assert.equal(await alice.send("bob", 1), 1);
    assert.deepEqual([errors, states.at(-1)], [["bad_frame"], "open"]);
  });
}

test("what could never work is refused by the constructor", () => {
  const make = (lookup, options) => () => new ringway.Client(lookup, "alice", { WebSocket, ...options });
  for (const lookup of ["nope", undefined, null, 7, [], ["http://a", "/b"], "http://", "http://a:99999", "ws://a"]) {
    assert.throws(make(lookup), { name: "InvalidInput", field: "lookup" }, String(lookup));
  }
  for (const lookup of ["http://a", ["https://b:1/x", "HTTP://[::1]:2"]]) make(lookup)();
  assert.throws(make("http://a", { groups: "room" }), { name: "InvalidInput", field: "groups" });
});

test("gaps are reported before what follows, and an async callback has one message at a time", async () => {
  for (let number = 0; number < 9; number++) await cluster.call("push", "u:alice", number);
  await cluster.call("lose_log", "u:alice", "log1", 6);
  const happened = [];
  await connected("alice", {
    onGap: (gap) => happened.push(["gap", gap.oldest]),
    onMessage: async (message) => {
      await new Promise((wake) => setTimeout(wake, 5));
      happened.push(["message", message.body]);
      if (message.body === 7) throw new Error("the application's own: expected in the output of this test");
    },
  });
  await until(() => happened.length === 4);
  assert.deepEqual(happened, [["gap", 7], ["message", 6], ["message", 7], ["message", 8]]);
});

test("positions kept in localStorage go on after a reload", async () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const options = () => ({ positions: ringway.localStoragePositions("app", storage) });
  await cluster.call("push", "u:alice", 1);
  const first = [];
  await (await connected("alice", { ...options(), onMessage: (m) => first.push(m.body) })).send("bob", 1);
  await until(() => first.length === 1);
  await clients.pop().close();
  assert.equal(kept.get("app"), '{"u:alice":"log1:1"}');
  await connected("alice", options());
  assert.equal((await cluster.seen()).handshakes.at(-1).inbox, "log1:1");
});

test("a place is kept before any message comes, so what comes during a reload is had", async () => {
  let kept = {};
  const got = [];
  const positions = { load: () => kept, save: (places) => (kept = places) };
  const options = { positions, groups: ["room"], onMessage: (m) => got.push(m.body) };
  await connected("alice", options);
  await until(() => JSON.stringify(kept) === '{"u:alice":"log1:0","g:room":"log1:0"}');
  await clients.pop().close();
  await cluster.call("push", "g:room", 1);
  await connected("alice", options);
  await until(() => got.length === 1);
});

test("a member's second device gets what only the first has read, without a second connection", async () => {
  await cluster.call("add_member", "alice", "team");
  let kept = {};
  const positions = { load: () => kept, save: (places) => (kept = places) };
  const [got, gaps] = [[], []];
  const options = { positions, onMessage: (m) => got.push(m.body), onGap: (gap) => gaps.push(gap) };
  await cluster.call("push", "g:team", 1);
  await connected("alice", options);
  await until(() => got.length === 1);
  await clients.pop().close();
  await cluster.call("push", "g:team", 2);
  const other = [];
  await connected("alice", { onMessage: (m) => other.push(m.body) });
  await until(() => other.length === 1);
  await clients.pop().close();
  await cluster.call("push", "g:team", 3);
  const before = (await cluster.seen()).handshakes.length;
  await connected("alice", options);
  await until(() => got.length === 3);
  assert.deepEqual([got, gaps], [[1, 2, 3], []]);
  assert.equal((await cluster.seen()).handshakes.length, before + 1);
});

test("late events of an old connection change nothing", async () => {
  const states = [];
  const alice = await connected("alice", { onState: (state) => states.push(state) });
  await cluster.call("freeze", "n1");
  await cluster.call("move", "n2");
  await until(() => alice.node === "n2");
  const before = [...states];
  await cluster.call("thaw", "n1");
  await cluster.call("close_all", "n1", 4010);
  await until(async () => (await cluster.seen()).sessions.n1 === 0);
  await alice.send("alice", 1);
  assert.deepEqual(states, before);
});

test("after close nothing happens any more", async () => {
  await cluster.call("greet", "n1", "close", 4100);
  const alice = new ringway.Client(cluster.urls, "alice", { WebSocket });
  alice.connect({ wait: false });
  await until(() => alice.state === "waiting");
  await alice.close();
  const { handshakes } = await cluster.seen();
  await new Promise((wake) => setTimeout(wake, 1600));
  assert.equal((await cluster.seen()).handshakes.length, handshakes.length);
  assert.equal(alice.state, "closed");
});

test("without a WebSocket it says what to pass", { skip: "WebSocket" in globalThis }, () => {
  assert.throws(() => new ringway.Client(cluster.urls, "alice"), /pass the one of the package `ws`/);
});

test("the snippet waits after answers of proxies, and then asks again", { timeout: 20000 }, async () => {
  const had = globalThis.WebSocket;
  globalThis.WebSocket = WebSocket;
  const asked = [];
  const answers = [
    [503, { "Retry-After": new Date().toUTCString() }, "later"], [503, { "Retry-After": "-9" }, ""],
    [200, {}, "<html>log in</html>"], [200, {}, "null"],
  ];
  const proxy = createServer(async ({ url }, response) => {
    asked.push(Date.now());
    const route = async () => [200, {}, await (await fetch(cluster.urls[0] + url)).text()];
    const [status, headers, body] = answers.shift() ?? (await route());
    response.writeHead(status, headers).end(body);
  });
  await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
  try {
    const stopped = new Promise((stop) => {
      const close = () => cluster.call("close_all", "n1", 4001);
      snippet(`http://127.0.0.1:${proxy.address().port}`, "alice", (frame) => frame.t === "welcome" && close(), stop);
    });
    assert.match(await stopped, /^4001/);
    assert.equal(asked.length, 5);
    for (const [number, at] of asked.slice(1).entries()) assert.ok(at - asked[number] >= 490, `request ${number + 1}`);
  } finally {
    globalThis.WebSocket = had;
    proxy.close();
    proxy.closeAllConnections();
  }
});

test("the snippet connects, comes back after a move and a drop, and stops on 40xx", async () => {
  const had = globalThis.WebSocket;
  globalThis.WebSocket = WebSocket;
  try {
    const nodes = [];
    const stopped = new Promise((stop) => {
      snippet(cluster.urls[0], "alice", (frame) => frame.t === "welcome" && nodes.push(frame.node), stop);
    });
    await until(() => nodes.length === 1);
    await cluster.call("change_owner", "n2");
    await cluster.call("close_all", "n1", 4300, 20);
    await until(() => nodes.length === 2);
    await cluster.call("drop_all", "n2");
    await until(() => nodes.length === 3);
    await cluster.call("close_all", "n2", 4001);
    assert.match(await stopped, /^4001/);
    assert.deepEqual(nodes, ["n1", "n2", "n2"]);
  } finally {
    globalThis.WebSocket = had;
  }
});
