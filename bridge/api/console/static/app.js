// The page: one phone, one call on show, and the table of them all.

import { CallTable, elapsed, short } from "./calls.js";
import { Away, key, request, watch } from "./http.js";
import { Phone, microphoneFault } from "./phone.js";
import { Meter, tone } from "./sound.js";
import { EventStream } from "./stream.js";
import { Transcript } from "./transcript.js";

const POLL_MS = 2000;
const LETTERS = ["", "", "ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ"];
const STATES = { idle: "Ready", asking: "Microphone?", dialling: "Calling", talking: "On call" };

const $ = (id) => document.getElementById(id);
const phone = new Phone();
const transcript = new Transcript($("transcript"));
const stream = new EventStream($("events"));
const meters = { microphone: new Meter($("meter-mic")), agent: new Meter($("meter-agent")) };
const table = new CallTable($("calls"), $("count"), act);

let watched = null;
let talkingSince = 0;
let polling = 0;
let about = { development: true, sip_uris: [] };

// Notices

function notice(words, kind = "fault") {
  $("notice").hidden = !words;
  $("notice").dataset.kind = kind;
  $("notice").firstElementChild.textContent = words ?? "";
}

function settle(kind) {
  if ($("notice").dataset.kind === kind) notice(null);
}

function report(error) {
  if (error instanceof Away) return away(error);
  if (error.status === 401) return wantKey(error.message);
  notice(error.message);
}

function away(error) {
  // Said once per absence: a notice that was dismissed stays away.
  if ($("link").textContent !== "no answer") notice(error.message, "away");
  link("no answer");
}

function wantKey(words) {
  link("key needed");
  $("key-form").hidden = false;
  notice(key.get() ? words : "This server needs an API key. It stays in this tab.", "key");
  if (document.activeElement === document.body) $("key").focus();
}

function link(words, up = false) {
  if ($("link").textContent !== words) $("link").textContent = words;
  $("link").classList.toggle("up", up);
}

// The phone

const idle = () => phone.state === "idle";

phone.addEventListener("state", ({ detail: state }) => {
  $("state").textContent = STATES[state];
  const call = $("call");
  call.classList.toggle("ending", !idle());
  call.lastElementChild.textContent = idle() ? "Call" : "Hang up";
  $("mute").disabled = idle();
  if (state === "asking") {
    unwatch();
    fresh("this call");
    $("dialled").textContent = "Allow the microphone to go on";
  }
  if (state === "dialling") $("dialled").textContent = "";
  if (state === "talking") talkingSince = Date.now() / 1000;
  if (state === "idle") ended();
  tick();
});

function ended() {
  for (const meter of Object.values(meters)) meter.stop();
  $("agent").srcObject = null;
  if (talkingSince) $("state").textContent = "Ended";
  $("dialled").textContent = `Press Call to talk ${talkingSince ? "again" : "to the agent"}`;
  talkingSince = 0;
  mute(false);
  mark();
  poll();
}

phone.addEventListener("id", ({ detail: callId }) => {
  $("dialled").textContent = callId ?? "";
  mark();
  poll();
});
phone.addEventListener("message", ({ detail: event }) => received(event));
phone.addEventListener("sent", ({ detail: event }) => stream.add(event, "sent"));
phone.addEventListener("microphone", ({ detail }) => meters.microphone.start(detail));
phone.addEventListener("agent", ({ detail }) => {
  $("agent").srcObject = detail;
  meters.agent.start(detail);
});
phone.addEventListener("fault", ({ detail }) => {
  $("dialled").textContent = "The call did not start";
  notice(detail);
});

$("call").addEventListener("click", () => {
  if (!idle()) return phone.hangup();
  notice(null);
  if (!navigator.mediaDevices) return notice(microphoneFault());
  phone.call();
});

function mute(muted) {
  phone.muted = muted;
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute").setAttribute("aria-label", muted ? "Unmute" : "Mute");
  $("mute").querySelector("use").setAttribute("href", muted ? "#i-mic-off" : "#i-mic");
}
$("mute").addEventListener("click", () => mute(!phone.muted));

for (const digit of "123456789*0#") {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "key";
  button.dataset.digit = digit;
  const letters = LETTERS[digit] ?? "";
  const face = document.createElement("b");
  face.textContent = digit;
  const small = document.createElement("small");
  small.textContent = letters;
  button.append(face, small);
  button.setAttribute("aria-label", { "*": "star", "#": "hash" }[digit] ?? digit);
  button.addEventListener("click", () => press(digit));
  $("keypad").append(button);
}

function press(digit) {
  tone(digit);
  phone.digit(digit);
  const button = $("keypad").querySelector(`[data-digit="${digit}"]`);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 140);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.matches("input, textarea, select")) return;
  if (/^[0-9*#]$/.test(event.key)) press(event.key);
});
addEventListener("pagehide", () => idle() || phone.hangup());

// What is on show: this page's call, or another that is watched

function received(event) {
  stream.add(event);
  transcript.receive(event);
  if (stream.paused) $("pause").textContent = `Resume ${stream.waiting}`;
}

function fresh(source) {
  stream.clear();
  transcript.clear();
  $("source").textContent = source;
}

function mark() {
  table.mark({ mine: phone.callId, watched: watched?.callId ?? null });
}

function startWatching(callId) {
  if (!idle()) return notice("Hang up first: one call is shown at a time.");
  unwatch();
  fresh(`watching ${short(callId)}`);
  const socket = watch(callId);
  watched = { callId, socket };
  $("unwatch").hidden = false;
  socket.onmessage = ({ data }) => received(JSON.parse(data));
  socket.onclose = ({ reason, wasClean }) => {
    if (watched?.socket !== socket) return;
    unwatch();
    $("source").textContent = wasClean ? `${short(callId)}: ${reason || "ended"}` : "";
    if (!wasClean) notice(`${short(callId)} cannot be watched: it has ended, or has not been answered.`);
  };
  mark();
}

function unwatch() {
  const socket = watched?.socket;
  watched = null;
  socket?.close();
  $("unwatch").hidden = true;
  $("source").textContent = "";
  mark();
}
$("unwatch").addEventListener("click", unwatch);

async function act(verb, callId) {
  if (verb === "watch") return startWatching(callId);
  if (callId === phone.callId) return phone.hangup();
  try {
    await request(`/v1/realtime/calls/${encodeURIComponent(callId)}/hangup`, { method: "POST" });
  } catch (error) {
    if (error.status !== 404) report(error);
  }
  poll();
}

// Controls of the event list

$("pause").addEventListener("click", () => {
  if (stream.paused) stream.resume();
  else stream.paused = true;
  $("pause").textContent = stream.paused ? "Resume" : "Pause";
  $("pause").setAttribute("aria-pressed", String(stream.paused));
});
$("clear").addEventListener("click", () => stream.clear());
$("filter").addEventListener("input", ({ target }) => stream.filter(target.value));

// The server

async function poll() {
  try {
    const response = await request("/v1/realtime/calls");
    table.show((await response.json()).data);
    link("connected", true);
    settle("away");
    settle("key");
    return true;
  } catch (error) {
    report(error);
    return false;
  }
}

async function introduce() {
  try {
    about = await (await request("/console.json")).json();
  } catch (error) {
    return away(error);
  }
  $("version").textContent = about.version;
  $("mode").hidden = !about.development;
  $("key-form").hidden = about.development;
  $("key").value = key.get();
  const uris = about.sip_uris.map(uriRow);
  if (!uris.length) {
    const none = document.createElement("li");
    none.textContent = "SIP is switched off on this server.";
    uris.push(none);
  }
  $("sip-uris").replaceChildren(...uris);
}

function uriRow(uri) {
  const row = document.createElement("li");
  const code = document.createElement("code");
  for (const part of uri.split(/(?<=;)/)) code.append(part, document.createElement("wbr"));
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", `Copy ${uri}`);
  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(uri);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  row.append(code, copy);
  return row;
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  link("connecting");
  clearTimeout(polling);
  keepPolling();
});
$("notice").lastElementChild.addEventListener("click", () => notice(null));

function tick() {
  // What a call lasted stays on show until the next.
  if (!idle()) $("timer").textContent = elapsed(talkingSince);
}
setInterval(tick, 500);

async function keepPolling() {
  if (!document.hidden && $("link").textContent !== "key needed") {
    const was = $("link").classList.contains("up");
    if ((await poll()) && !was) {
      await introduce();
      followLink();
    }
  }
  polling = setTimeout(keepPolling, POLL_MS);
}

// A link to a call, `/#rtc_…`, watches it as soon as the server lets us.
function followLink() {
  const callId = decodeURIComponent(location.hash.slice(1));
  if (callId.startsWith("rtc_") && callId !== watched?.callId) startWatching(callId);
}
addEventListener("hashchange", followLink);

await introduce();
await keepPolling();
