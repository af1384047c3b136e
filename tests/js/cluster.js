// The scripted peer of the Python tests, as a process of its own: verbs are JSON lines on its stdin.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export class Cluster {
  #process;
  #lines;

  static async start(options = {}) {
    const cluster = new Cluster();
    const command = [process.env.RINGWAY_TEST_PYTHON ?? "python3", ["-m", "tests.harness.fake_node", JSON.stringify(options)]];
    cluster.#process = spawn(...command, { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] });
    cluster.#lines = createInterface(cluster.#process.stdout)[Symbol.asyncIterator]();
    cluster.urls = (await cluster.#answer()).urls;
    return cluster;
  }

  async #answer() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the scripted peer has ended");
    return JSON.parse(value);
  }

  async call(verb, ...args) {
    this.#process.stdin.write(`${JSON.stringify({ call: verb, args })}\n`);
    return this.#answer();
  }

  seen() {
    return this.call("seen");
  }

  async stop() {
    const over = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.stdin.end();
    await over;
  }
}

export async function until(predicate, seconds = 8) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await predicate();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${predicate}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}
