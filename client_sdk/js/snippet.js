// ringway without the SDK: asks for a route, connects, and comes back after each close, with jitter. Stops on 1000 and 40xx.
// What it leaves out: positions, sending again what had no `ok`, moving without a gap. docs/protocol.md has all of it.
export async function connect(lookup, uid, onFrame, onStop = console.error, failures = 0) {
  const again = (n, ms = 0) =>
    setTimeout(connect, ms + (n && 500 + Math.random() * Math.min(20000, 250 * 2 ** n)), lookup, uid, onFrame, onStop, n);
  const answer = await fetch(`${lookup}/route?uid=${encodeURIComponent(uid)}`).catch(() => ({ status: 503 }));
  if ([400, 401, 403].includes(answer.status)) return onStop(await answer.text());
  const { url } = (answer.status === 200 && (await answer.json().catch(() => null))) || {}; // a proxy's page has none
  if (!/^wss?:/.test(url)) return again(failures + 1, 1e3 * Math.min(300, Math.abs(answer.headers?.get("Retry-After")) || 0));
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => onFrame(JSON.parse(data), socket, (failures = 0));
  socket.onclose = ({ code, reason }) => {
    if (code === 1000 || (code >= 4000 && code < 4100)) onStop(`${code} ${reason}`);
    else if (code < 4300 || code > 4399) again(failures + 1);
    else again(0, Math.random() * (/"w":(\d+)/.exec(reason)?.[1] ?? 0)); // moved or drained: no failure
  };
}
