// What the agents-realtime clients share: their agents, their tools, and what they are asked.

import { RealtimeAgent, tool } from "@openai/agents-realtime";
import { Watch } from "./script.mjs";

const strings = (name) => ({
  type: "object",
  properties: { [name]: { type: "string" } },
  required: [name],
  additionalProperties: false,
});

export const weather = tool({
  name: "get_weather",
  description: "The weather of a place.",
  parameters: strings("place"),
  strict: false,
  execute: async ({ place }) => `rain in ${place}`,
});

export const erase = tool({
  name: "delete_account",
  description: "Deletes the caller's account.",
  parameters: strings("reason"),
  strict: false,
  needsApproval: true,
  execute: async () => "deleted",
});

export const billing = new RealtimeAgent({ name: "billing", instructions: "You are billing." });

export const reception = new RealtimeAgent({
  name: "reception",
  instructions: "You are the reception.",
  tools: [weather, erase],
  handoffs: [billing],
});

const EVENTS = [
  "agent_end", "agent_handoff", "agent_tool_start", "agent_tool_end", "audio", "audio_interrupted",
  "audio_stopped", "error", "guardrail_tripped", "tool_approval_requested",
];

// What the server sent, and what the SDK made of it.
export function follow(session) {
  const server = new Watch();
  const sdk = new Watch({ told: false });
  session.transport.on("*", (event) => {
    // The transport re-emits its own notices too; only the server's events have an id.
    if (event.event_id) server.add(event);
  });
  for (const type of EVENTS) session.on(type, (...details) => sdk.add({ type, details }));
  return { session, server, sdk };
}

export const spoke = ({ response }) =>
  response.status === "completed" && response.output[0]?.type === "message";
export const cancelled = ({ response }) => response.status === "cancelled";
