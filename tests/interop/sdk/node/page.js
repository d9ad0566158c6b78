// The application in the page: one agent, one tool, the SDK's own WebRTC transport.

import {
  OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession, tool,
} from "/openai-realtime-agents.mjs";

async function microphone() {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const sound = await context.decodeAudioData(await (await fetch("/speech.wav")).arrayBuffer());
  const output = context.createMediaStreamDestination();
  window.speak = () => {
    const source = context.createBufferSource();
    source.buffer = sound;
    source.connect(output);
    source.start();
  };
  return output.stream;
}

const weather = tool({
  name: "get_weather",
  description: "The weather of a place.",
  parameters: {
    type: "object",
    properties: { place: { type: "string" } },
    required: ["place"],
    additionalProperties: false,
  },
  strict: false,
  execute: async ({ place }) => `rain in ${place}`,
});

export async function start(baseUrl, apiKey) {
  let peer;
  const transport = new OpenAIRealtimeWebRTC({
    baseUrl,
    mediaStream: await microphone(),
    audioElement: document.createElement("audio"),
    changePeerConnection: async (connection) => (peer = connection),
  });
  const agent = new RealtimeAgent({
    name: "reception",
    instructions: "You are the reception.",
    tools: [weather],
  });
  const session = (window.session = new RealtimeSession(agent, {
    transport,
    model: "gpt-realtime",
  }));
  // The transport re-emits its own notices too; only the server's events have an id.
  transport.on("*", (event) => event.event_id && window.fromServer(event));
  transport.on("connection_change", (status) => window.fromSdk(status));
  session.on("agent_tool_end", () => window.fromSdk("agent_tool_end"));
  session.on("error", ({ error }) => window.fromSdk("error", JSON.stringify(error)));
  window.heard = async () => {
    const all = [...(await peer.getStats()).values()];
    const inbound = all.find(({ type }) => type === "inbound-rtp");
    const codec = all.find(({ id }) => id === inbound.codecId);
    return { energy: inbound.totalAudioEnergy, codec: codec.mimeType };
  };
  await session.connect({ apiKey });
  return transport.callId;
}
