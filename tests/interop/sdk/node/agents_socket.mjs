// agents-realtime over its WebSocket transport: RealtimeSession with all that two agents can do.

import { RealtimeSession } from "@openai/agents-realtime";
import { cancelled, follow, reception, spoke } from "./agents.mjs";
import { assert, env, passed, sleep, socketURL, speech } from "./script.mjs";

let guarded = 0;
let forbids = false;

const forbid = {
  name: "forbid",
  execute: async ({ agentOutput }) => {
    guarded += 1;
    return {
      tripwireTriggered: forbids && agentOutput.includes("sentence number 3"),
      outputInfo: {},
    };
  },
};

const session = new RealtimeSession(reception, {
  transport: "websocket",
  model: "gpt-realtime",
  outputGuardrails: [forbid],
  outputGuardrailSettings: { debounceTextLength: 60 },
});
const { server, sdk } = follow(session);

async function speak() {
  for (const chunk of speech()) {
    session.sendAudio(new Uint8Array(chunk).buffer);
    await sleep(100);
  }
}

async function voiceTurn() {
  const [after, said] = [sdk.here, server.here];
  await speak();
  await sdk.wait("audio", { after });
  await sdk.wait("agent_end", { after });
  await server.wait("response.done", { after: said, where: spoke });
  const [user] = session.history.filter(({ role }) => role === "user");
  assert(user.content[0].type === "input_audio", JSON.stringify(user));
  passed("voice turn");
}

async function tool() {
  const [after, said] = [sdk.here, server.here];
  session.sendMessage("Please get weather of Leeds");
  const { details } = await sdk.wait("agent_tool_end", { after });
  assert(details[3].includes("rain in"), details[3]);
  await server.wait("response.done", { after: said, where: spoke });
  passed("tool");
}

async function approval() {
  const [after, said] = [sdk.here, server.here];
  session.sendMessage("Please delete account");
  const { details } = await sdk.wait("tool_approval_requested", { after });
  await session.approve(details[2].approvalItem);
  await sdk.wait("agent_tool_end", { after });
  await server.wait("response.done", { after: said, where: spoke });
  passed("approval");
}

async function guardrail() {
  const [after, said] = [sdk.here, server.here];
  guarded = 0;
  forbids = true;
  session.sendMessage("Tell me a story");
  await sdk.wait("guardrail_tripped", { after });
  forbids = false;
  await server.wait("response.done", { after: said, where: cancelled });
  await server.wait("response.done", { after: said, where: spoke });
  assert(guarded > 0 && guarded < 10, `${guarded} runs of the guardrail`);
  passed("guardrail");
}

async function bargeIn() {
  const [after, said] = [sdk.here, server.here];
  session.sendMessage("Tell me another tale: story");
  await sdk.wait("audio", { after });
  await speak();
  await sdk.wait("audio_interrupted", { after });
  await server.wait("response.done", { after: said, where: cancelled });
  await server.wait("conversation.item.truncated", { after: said });
  await server.wait("response.done", { after: said, where: spoke });
  passed("barge-in");
}

async function handoff() {
  const [after, said] = [sdk.here, server.here];
  session.sendMessage("Please transfer to billing");
  await sdk.wait("agent_handoff", { after });
  const where = (event) => event.session.instructions === "You are billing.";
  await server.wait("session.updated", { after: said, where });
  await server.wait("response.done", { after: said, where: spoke });
  passed("handoff");
}

await session.connect({ apiKey: env.OPENAI_API_KEY, url: socketURL("model=gpt-realtime") });
await server.wait("session.updated");
passed("connect");
await voiceTurn();
await tool();
await approval();
await guardrail();
await bargeIn();
await handoff();
const faults = sdk.events.filter(({ type }) => type === "error");
assert(!faults.length, JSON.stringify(faults));
session.close();
