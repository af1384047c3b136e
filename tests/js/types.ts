// Compiled, not run: what a user in TypeScript writes must have types.
import { Client, ClosedByServer, type Gap, type Message, localStoragePositions } from "../../client_sdk/js/ringway.js";

export async function chat(): Promise<void> {
  const client = new Client(["http://127.0.0.1:8080"], "alice", {
    token: async () => "secret",
    onGap: (gap: Gap) => console.log(gap.oldest + 1),
    onState: (state, cause) => console.log(state === "open", cause?.message),
    positions: localStoragePositions("chat"),
  });
  await client.connect({ timeoutS: 5 });
  const seq: number | null = await client.send("bob", { text: "hello" }, { volatile: false });
  const joined = await client.join("room", { from: { gen: "g", seq: 4 } });
  const nothing: null = await client.broadcast("to all", { id: "b1" });
  console.log(nothing, seq, joined.recovered, client.node.length);
  for await (const message of client) {
    const at: Message = message;
    client.ack(at);
    if (client.error instanceof ClosedByServer) console.log(client.error.code + 1);
  }
  // @ts-expect-error a body without a recipient
  client.send();
  await client.close();
}
