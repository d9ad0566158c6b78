// agents-realtime answers a phone call and attaches to it by its SIP transport.

import { OpenAIRealtimeSIP, RealtimeSession } from "@openai/agents-realtime";
import OpenAI from "openai";
import { cancelled, follow, reception, spoke } from "./agents.mjs";
import { assert, dial, env, passed, receiver, socketURL, speakOn } from "./script.mjs";

const PHONE = "agents";

const client = new OpenAI({ maxRetries: 0 });
const hooks = await receiver();
dial(PHONE);
const { body, headers } = await hooks.next();
const incoming = await client.webhooks.unwrap(body, headers);
const callId = incoming.data.call_id;
const options = { model: "gpt-realtime" };
await client.realtime.calls.accept(
  callId,
  await OpenAIRealtimeSIP.buildInitialConfig(reception, options),
);
passed("accept");

const transport = new OpenAIRealtimeSIP();
const session = new RealtimeSession(reception, { ...options, transport });
const { server, sdk } = follow(session);
const disconnected = new Promise((resolve) => {
  transport.on("connection_change", (status) => status === "disconnected" && resolve());
});
await session.connect({
  apiKey: env.OPENAI_API_KEY, callId, url: socketURL(`call_id=${callId}`),
});
await server.wait("session.updated");
passed("connect");

let after = server.here;
speakOn(PHONE);
await server.wait("conversation.item.input_audio_transcription.completed", { after });
await server.wait("output_audio_buffer.started", { after });
await server.wait("output_audio_buffer.stopped", { after });
passed("voice turn");

after = server.here;
session.sendMessage("Please get weather of Leeds");
await sdk.wait("agent_tool_end");
await server.wait("response.done", { after, where: spoke });
await server.wait("output_audio_buffer.stopped", { after });
passed("tool");

after = server.here;
session.sendMessage("Tell me a story");
await server.wait("output_audio_buffer.started", { after });
speakOn(PHONE);
await server.wait("output_audio_buffer.cleared", { after });
await server.wait("conversation.item.truncated", { after });
await server.wait("response.done", { after, where: cancelled });
await server.wait("response.done", { after, where: spoke });
passed("barge-in");

const faults = sdk.events.filter(({ type }) => type === "error");
assert(!faults.length, JSON.stringify(faults));
assert(!server.types().includes("response.output_audio.delta"), "audio on a sideband");
await client.realtime.calls.hangup(callId);
await disconnected;
passed("hangup");
session.close();
hooks.close();
