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
server.listen(Number(port), "127.0.0.1", 4096);
