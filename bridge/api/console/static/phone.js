// One call of this page over WebRTC: microphone, offer, data channel, keys, hanging up.

import { request } from "./http.js";

const GATHERING_MS = 700;
const TONE_MS = 120;
const GAP_MS = 70;

export const microphoneFault = (error) => {
  if (!navigator.mediaDevices) {
    return "Browsers give the microphone only to pages on https or localhost. Open this page there.";
  }
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The microphone is blocked. Allow it in the site settings next to the address, then call again.";
    case "NotFoundError":
      return "No microphone was found. Connect one, then call again.";
    case "NotReadableError":
      return "Another program is holding the microphone. Close it, then call again.";
    default:
      return null;
  }
};

// Events: "state" (idle, asking, dialling, talking), "id", "message" (a server event),
// "sent" (a client event), "agent" and "microphone" (a MediaStream), "fault" (words for the user).
export class Phone extends EventTarget {
  state = "idle";
  callId = null;
  #peer = null;
  #channel = null;
  #microphone = null;
  #attempt = 0;

  async call() {
    const attempt = ++this.#attempt;
    this.#enter("asking");
    try {
      const microphone = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
      if (attempt !== this.#attempt) return stop(microphone);
      this.#microphone = microphone;
      this.#tell("microphone", microphone);
      this.#enter("dialling");
      await this.#dial(attempt);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#end();
      this.#tell("fault", microphoneFault(error) ?? error.message);
    }
  }

  async #dial(attempt) {
    const peer = (this.#peer = new RTCPeerConnection());
    const channel = (this.#channel = peer.createDataChannel("oai-events"));
    channel.onmessage = ({ data }) => this.#tell("message", JSON.parse(data));
    channel.onclose = () => this.#over(peer);
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "connected") this.#enter("talking");
      if (["failed", "closed"].includes(peer.connectionState)) this.#over(peer);
    };
    peer.ontrack = ({ track, streams }) => this.#tell("agent", streams[0] ?? new MediaStream([track]));
    for (const track of this.#microphone.getTracks()) peer.addTrack(track, this.#microphone);

    await peer.setLocalDescription();
    await gathered(peer);
    if (attempt !== this.#attempt) return;
    const response = await request("/v1/realtime/calls", {
      method: "POST",
      headers: { "content-type": "application/sdp", accept: "application/sdp" },
      body: peer.localDescription.sdp,
    });
    const callId = response.headers.get("location")?.split("/").pop() ?? null;
    const sdp = await response.text();
    if (attempt !== this.#attempt) return void forget(callId);
    this.callId = callId;
    this.#tell("id", callId);
    await peer.setRemoteDescription({ type: "answer", sdp });
  }

  hangup() {
    const callId = this.callId;
    this.#end();
    if (callId) forget(callId);
  }

  get muted() {
    return this.#microphone?.getAudioTracks().every((track) => !track.enabled) ?? false;
  }

  set muted(muted) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  // Tones when the far end negotiated telephone-event, a line of text to the agent otherwise.
  digit(digit) {
    const dtmf = this.#peer?.getSenders().find((sender) => sender.dtmf?.canInsertDTMF)?.dtmf;
    if (dtmf) {
      dtmf.insertDTMF(dtmf.toneBuffer + digit, TONE_MS, GAP_MS);
    } else if (this.#channel?.readyState === "open") {
      const content = [{ type: "input_text", text: `[dtmf] ${digit}` }];
      this.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
      this.send({ type: "response.create" });
    }
  }

  send(event) {
    this.#channel.send(JSON.stringify(event));
    this.#tell("sent", event);
  }

  #over(peer) {
    if (peer === this.#peer) this.#end();
  }

  #end() {
    this.#attempt += 1;
    const peer = this.#peer;
    this.#peer = this.#channel = this.callId = null;
    peer?.close();
    stop(this.#microphone);
    this.#microphone = null;
    this.#enter("idle");
  }

  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.#tell("state", state);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function forget(callId) {
  request(`/v1/realtime/calls/${callId}/hangup`, { method: "POST", keepalive: true }).catch(() => {
    // The call has ended by itself, or the server will notice that we are gone.
  });
}

function gathered(peer) {
  return new Promise((resolve) => {
    if (peer.iceGatheringState === "complete") return resolve();
    setTimeout(resolve, GATHERING_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete") resolve();
    });
  });
}
