// agents-realtime's WebRTC transport in headless Chromium, from a page of another origin.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { TELLS_ADDRESSES, start } from "../../node/browser.mjs";
import { cancelled, spoke } from "./agents.mjs";
import { Watch, assert, env, passed } from "./script.mjs";

const BUNDLE = new URL("./node_modules/@openai/agents-realtime/dist/bundle/", import.meta.url);

const page = createServer((request, response) => {
  const name = request.url.slice(1);
  const files = { "page.js": new URL("./page.js", import.meta.url), "speech.wav": env.PEER_SPEECH };
  if (!name) return response.setHeader("content-type", "text/html").end("<!doctype html>");
  if (name === "favicon.ico") return response.writeHead(204).end();
  response.setHeader("content-type", name.endsWith("js") ? "text/javascript" : "audio/wav");
  response.end(readFileSync(files[name] ?? new URL(name, BUNDLE)));
});
await new Promise((resolve) => page.listen(+env.PEER_PAGE_PORT, "127.0.0.1", resolve));

const client = new OpenAI({ maxRetries: 0 });
const { value } = await client.realtime.clientSecrets.create({
  session: { type: "realtime", model: "gpt-realtime" },
});

const browser = await start(env.PEER_CHROMIUM, {
  args: [TELLS_ADDRESSES, "--ignore-certificate-errors"],
});
try {
  const tab = await browser.newPage();
  const server = new Watch();
  const sdk = new Watch({ told: false });
  await tab.exposeFunction("fromServer", (event) => server.add(event));
  await tab.exposeFunction("fromSdk", (type, detail) => sdk.add({ type, detail }));
  tab.on("pageerror", (error) => console.error(error));
  tab.on("console", (message) => console.error(message.text()));
  await tab.goto(`http://127.0.0.1:${env.PEER_PAGE_PORT}/`);
  const callId = await tab.evaluate(
    async ([baseUrl, key]) => (await import("/page.js")).start(baseUrl, key),
    [`${env.OPENAI_BASE_URL}/realtime/calls`, value],
  );
  passed("connect");
  passed("client_secrets");
  assert(callId?.startsWith("rtc_"), `no call id: ${callId}`);
  passed("create");

  const speak = () => tab.evaluate(() => window.speak());
  const send = (text) => tab.evaluate((text) => window.session.sendMessage(text), text);

  let after = server.here;
  await speak();
  await server.wait("conversation.item.input_audio_transcription.completed", { after });
  await server.wait("output_audio_buffer.started", { after });
  await server.wait("output_audio_buffer.stopped", { after });
  const { energy, codec } = await tab.evaluate(() => window.heard());
  assert(energy > 0.001, `nothing to hear: ${energy}`);
  assert(codec === "audio/opus", codec);
  passed("voice turn");

  after = server.here;
  await send("Please get weather of Leeds");
  await sdk.wait("agent_tool_end");
  await server.wait("response.done", { after, where: spoke });
  await server.wait("output_audio_buffer.stopped", { after });
  passed("tool");

  after = server.here;
  await send("Tell me a story");
  await server.wait("output_audio_buffer.started", { after });
  await speak();
  await server.wait("output_audio_buffer.cleared", { after });
  await server.wait("conversation.item.truncated", { after });
  await server.wait("response.done", { after, where: cancelled });
  await server.wait("response.done", { after, where: spoke });
  assert(!server.types().includes("response.output_audio.delta"), "audio in the data channel");
  passed("barge-in");

  const faults = sdk.events.filter(({ type }) => type === "error");
  assert(!faults.length, JSON.stringify(faults));
  await client.realtime.calls.hangup(callId);
  await sdk.wait("disconnected");
  passed("hangup");
} finally {
  await browser.close();
  page.close();
  page.closeAllConnections();
}
