// openai-node: everything its Realtime surface has, on sessions, browser offers and phone calls.

import OpenAI, { NotFoundError } from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { Watch, assert, dial, offer, passed, receiver, speech } from "./script.mjs";

const SESSION = {
  type: "realtime",
  instructions: "Be brief.",
  audio: { input: { transcription: { model: "whisper-1" } } },
  tools: [
    {
      type: "function",
      name: "get_weather",
      description: "The weather of a place.",
      parameters: { type: "object", properties: { place: { type: "string" } } },
    },
  ],
};

const client = new OpenAI({ maxRetries: 0 });

async function connect(properties, by = client) {
  const socket = new OpenAIRealtimeWS(properties, by);
  const watch = new Watch();
  const faults = [];
  socket.on("event", (event) => watch.add(event));
  socket.on("error", (error) => faults.push(error));
  const closed = new Promise((resolve) => {
    socket.socket.on("close", (code, reason) => resolve([code, reason.toString()]));
  });
  const created = await Promise.race([
    watch.wait("session.created"),
    closed.then(() => Promise.reject(faults[0] ?? new Error("closed"))),
  ]);
  return { socket, watch, faults, closed, created };
}

const say = (socket, text) =>
  socket.send({
    type: "conversation.item.create",
    item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
  });

const speak = (socket) => {
  for (const chunk of speech()) {
    socket.send({ type: "input_audio_buffer.append", audio: chunk.toString("base64") });
  }
};

const heardMs = (watch, after) =>
  watch.events
    .slice(after)
    .filter(({ type }) => type === "response.output_audio.delta")
    .reduce((sum, { delta }) => sum + Math.floor(Buffer.from(delta, "base64").length / 48), 0);

async function voiceTurn({ socket, watch }) {
  const after = watch.here;
  speak(socket);
  await watch.wait("conversation.item.input_audio_transcription.completed", { after });
  const { response } = await watch.wait("response.done", { after });
  assert(response.status === "completed", JSON.stringify(response));
  const ms = heardMs(watch, after);
  assert(ms > 500, `${ms} ms of audio`);
  passed("voice turn");
}

async function tool({ socket, watch }) {
  let after = watch.here;
  say(socket, "Please get weather of Leeds");
  socket.send({ type: "response.create" });
  const { response } = await watch.wait("response.done", { after });
  const [call] = response.output;
  assert(JSON.parse(call.arguments).place.includes("Leeds"), JSON.stringify(call));
  after = watch.here;
  socket.send({
    type: "conversation.item.create",
    item: { type: "function_call_output", call_id: call.call_id, output: "rain" },
  });
  socket.send({ type: "response.create" });
  const { transcript } = await watch.wait("response.output_audio_transcript.done", { after });
  assert(transcript.includes("rain"), transcript);
  await watch.wait("response.done", { after });
  passed("tool");
}

async function outOfBand({ socket, watch }) {
  const after = watch.here;
  const content = [{ type: "input_text", text: "apples" }];
  socket.send({
    type: "response.create",
    response: {
      conversation: "none",
      output_modalities: ["text"],
      metadata: { topic: "fruit" },
      input: [{ type: "message", role: "user", content }],
    },
  });
  const { response } = await watch.wait("response.done", { after });
  assert(response.metadata.topic === "fruit" && response.conversation_id === null, "metadata");
  assert(response.output[0].content[0].text.includes("apples"), "its own input");
  passed("out-of-band");
}

async function bargeIn({ socket, watch }) {
  const after = watch.here;
  say(socket, "Tell me a story");
  socket.send({ type: "response.create" });
  await watch.wait("response.output_audio.delta", { after });
  const ms = heardMs(watch, after);
  speak(socket);
  const { response } = await watch.wait("response.done", { after });
  assert(response.status === "cancelled", response.status);
  assert(response.status_details.reason === "turn_detected", "reason");
  socket.send({
    type: "conversation.item.truncate",
    item_id: response.output[0].id,
    content_index: 0,
    audio_end_ms: ms,
  });
  await watch.wait("conversation.item.truncated", { after });
  const where = (event) => event.response.status === "completed";
  await watch.wait("response.done", { after, where });
  passed("barge-in");
}

async function session() {
  const connection = await connect({ model: "gpt-realtime" });
  connection.socket.send({ type: "session.update", session: SESSION });
  await connection.watch.wait("session.updated");
  passed("connect");
  await voiceTurn(connection);
  await tool(connection);
  await outOfBand(connection);
  await bargeIn(connection);
  assert(!connection.faults.length, String(connection.faults[0]));
  connection.socket.close();
  const [code] = await connection.closed;
  assert(code === 1000, code);
}

async function clientSecrets() {
  const { value } = await client.realtime.clientSecrets.create({
    expires_after: { anchor: "created_at", seconds: 60 },
    session: { type: "realtime", instructions: "From the secret." },
  });
  const browser = client.withOptions({ apiKey: value });
  const { socket, created, closed } = await connect({ model: "gpt-realtime" }, browser);
  assert(created.session.instructions === "From the secret.", created.session.instructions);
  socket.close();
  await closed;
  passed("client_secrets");
}

async function callsCreate() {
  const session = { type: "realtime", model: "m" };
  for (const body of [{ sdp: offer() }, { sdp: offer(), session }]) {
    const answer = await client.realtime.calls.create(body);
    assert(answer.status === 201, answer.status);
    assert((await answer.text()).startsWith("v=0"), "no SDP");
    const callId = answer.headers.get("location").split("/").pop();
    await client.realtime.calls.hangup(callId);
  }
  passed("create");
}

async function incoming(hooks, name) {
  dial(name);
  const { body, headers } = await hooks.next();
  const event = await client.webhooks.unwrap(body, headers);
  assert(event.type === "realtime.call.incoming", event.type);
  const phone = event.data.sip_headers.find((header) => header.name === "X-Phone");
  assert(phone.value === name, phone.value);
  return event.data.call_id;
}

async function phoneCalls(hooks) {
  const refused = await incoming(hooks, "rejected");
  passed("webhook");
  await client.realtime.calls.reject(refused, { status_code: 486 });
  passed("reject");

  const callId = await incoming(hooks, "accepted");
  await client.realtime.calls.accept(callId, SESSION);
  const { socket, watch, closed, created } = await connect({ callID: callId });
  assert(created.session.instructions === "Be brief.", created.session.instructions);
  passed("accept");
  say(socket, "Good morning");
  socket.send({ type: "response.create" });
  await watch.wait("output_audio_buffer.started");
  await watch.wait("output_audio_buffer.stopped");
  await client.realtime.calls.hangup(callId);
  const [code] = await closed;
  assert(code === 1000, code);
  passed("hangup");
  const late = await client.realtime.calls.accept(callId, SESSION).catch((error) => error);
  assert(late instanceof NotFoundError, String(late));
}

async function transfer(hooks) {
  const target = "tel:+4930123456";
  const callId = await incoming(hooks, "transferred");
  await client.realtime.calls.accept(callId, SESSION);
  const { closed } = await connect({ callID: callId });
  await client.realtime.calls.refer(callId, { target_uri: target });
  await closed;
  const record = await client.get(`/realtime/calls/${callId}`);
  assert(record.end_reason === "transferred", JSON.stringify(record));
  assert(record.transfer.target === target, JSON.stringify(record));
  passed("refer");
}

const hooks = await receiver();
await session();
await clientSecrets();
await callsCreate();
await phoneCalls(hooks);
await transfer(hooks);
hooks.close();
