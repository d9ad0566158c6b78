// What every JavaScript client under test says to the test: features passed, events seen, wishes.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";

export const env = process.env;
const WAIT_MS = 20_000;
const PAUSE_MS = 1500;
const CHUNK_MS = 100;
const BYTES_PER_MS = 48;

export const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
export const passed = (feature) => tell({ passed: feature });
export const dial = (name) => tell({ dial: name });
export const speakOn = (name) => tell({ speak: name });
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const offer = () => readFileSync(env.PEER_OFFER, "utf8");
export const socketURL = (query) => `${env.OPENAI_BASE_URL.replace(/^http/, "ws")}/realtime?${query}`;

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

// A sentence as PCM16 of 24 kHz in chunks, and the pause that ends the turn.
export function speech() {
  const file = readFileSync(env.PEER_SPEECH);
  const sound = Buffer.concat([file.subarray(44), Buffer.alloc(PAUSE_MS * BYTES_PER_MS)]);
  const chunks = [];
  for (let at = 0; at < sound.length; at += CHUNK_MS * BYTES_PER_MS) {
    chunks.push(sound.subarray(at, at + CHUNK_MS * BYTES_PER_MS));
  }
  return chunks;
}

export class Watch {
  events = [];
  #waiters = new Set();
  #told;

  // With `told` false: a client's own events, which are nobody else's business.
  constructor({ told = true } = {}) {
    this.#told = told;
  }

  add(event) {
    if (this.#told) tell({ event });
    this.events.push(event);
    for (const look of [...this.#waiters]) look();
  }

  get here() {
    return this.events.length;
  }

  types(after = 0) {
    return this.events.slice(after).map(({ type }) => type);
  }

  // The first event of this kind, `where` true, from position `after` on.
  wait(kind, { after = 0, where = () => true } = {}) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.events.slice(after).find((event) => event.type === kind && where(event));
        if (!found) return;
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(look);
        reject(new Error(`no ${kind} among ${this.types(after)}`));
      }, WAIT_MS);
      this.#waiters.add(look);
      look();
    });
  }
}

// Where the server posts its webhooks: `next()` is the next of them.
export async function receiver() {
  const got = [];
  const waiting = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.end();
    const delivery = { headers: request.headers, body: Buffer.concat(parts).toString() };
    waiting.length ? waiting.shift()(delivery) : got.push(delivery);
  });
  await new Promise((resolve) => server.listen(+env.PEER_WEBHOOK_PORT, "127.0.0.1", resolve));
  return {
    next: () => (got.length ? got.shift() : new Promise((resolve) => waiting.push(resolve))),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
