// node `ws`.
import { readFileSync } from "node:fs";
import { createServer as http } from "node:http";
import { createServer as https } from "node:https";
import { WebSocketServer } from "ws";

const [port, cert, key] = process.argv.slice(2);
const server = cert ? https({ cert: readFileSync(cert), key: readFileSync(key) }) : http();
const wss = new WebSocketServer({ server, perMessageDeflate: false });
wss.on("connection", (ws, request) => {
  request.socket.setNoDelay(true);
  ws.on("error", () => ws.terminate());
  ws.on("message", (data) => {
    const text = data.toString();
    if (text.startsWith("fan:")) for (const other of wss.clients) other.send(text);
    else ws.send(text);
  });
});
// As its documentation advises: who has not answered the last ping is gone.
if (process.env.BENCH_PING_S) {
  wss.on("connection", (ws) => { ws.alive = true; ws.on("pong", () => { ws.alive = true; }); });
  setInterval(() => {
    for (const ws of wss.clients) {
      if (!ws.alive) ws.terminate();
      else { ws.alive = false; ws.ping(); }
    }
  }, process.env.BENCH_PING_S * 1000);
}
server.listen(Number(port), "127.0.0.1", 4096);
