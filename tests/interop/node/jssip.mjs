// Calls over a WebSocket with JsSIP, hangs up, and prints what happened as JSON.
//
// node --experimental-websocket jssip.mjs '{"url", "to"}'
//
// Node has no peer connection; the one here speaks plain RTP in its SDP and sends nothing.

import { createRequire } from "node:module";

const wanted = JSON.parse(process.argv[2]);
const events = [];
const WAIT_MS = 10_000;

const OFFER = [
  "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
  "m=audio 6000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv", "",
].join("\r\n");

class Peer extends EventTarget {
  iceGatheringState = "complete";
  iceConnectionState = "connected";
  signalingState = "stable";
  connectionState = "connected";
  async createOffer() {
    return { type: "offer", sdp: OFFER };
  }
  async setLocalDescription(description) {
    this.localDescription = description;
  }
  async setRemoteDescription(description) {
    this.remoteDescription = description;
  }
  getSenders() {
    return [];
  }
  getReceivers() {
    return [];
  }
  addTrack() {}
  close() {
    this.signalingState = "closed";
  }
}

globalThis.window = globalThis;
globalThis.RTCPeerConnection = Peer;
globalThis.RTCSessionDescription = class {
  constructor(description) {
    Object.assign(this, description);
  }
};

const JsSIP = createRequire(import.meta.url)("jssip");
const socket = new JsSIP.WebSocketInterface(wanted.url);
const ua = new JsSIP.UA({ sockets: [socket], uri: "sip:page@page.invalid", register: false });
const note = (kind, detail = null) => events.push([kind, detail]);

function finish() {
  console.log(JSON.stringify(events));
  process.exit(0);
}

setTimeout(finish, WAIT_MS).unref();
ua.on("disconnected", ({ code }) => note("disconnected", code ?? null));
ua.on("connected", () => {
  note("connected");
  ua.sendOptions(wanted.to, "", {
    eventHandlers: {
      succeeded: ({ response }) => note("options", response.status_code),
      failed: ({ cause }) => note("options", cause),
    },
  });
  const session = ua.call(wanted.to, { mediaStream: { getTracks: () => [] } });
  session.on("progress", ({ response }) => note("progress", response.status_code));
  session.on("failed", ({ cause }) => {
    note("failed", cause);
    finish();
  });
  session.on("confirmed", () => {
    note("confirmed", session.connection.remoteDescription.type);
    setTimeout(() => session.terminate(), 300);
  });
  session.on("ended", ({ originator, cause }) => {
    note("ended", `${originator}: ${cause}`);
    ua.stop();
    setTimeout(finish, 500);
  });
});
ua.start();
