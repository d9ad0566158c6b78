// Calls of pages that do not say where they are, told as JSON: what candidates the offer had, and
// what the browser counted once sound had come back.
//
// node candidates.mjs '{"url", "chromium", "bare": [true, …]}': a call each, with no candidates in
// the offer, or with those that Chromium shows to pages that have no microphone.

import { start } from "./browser.mjs";

const wanted = JSON.parse(process.argv[2]);

async function call({ url, bare }) {
  const peer = (window.peer = new RTCPeerConnection());
  const context = new AudioContext();
  const tone = context.createOscillator();
  const line = context.createMediaStreamDestination();
  tone.connect(line);
  tone.start();
  peer.addTrack(line.stream.getAudioTracks()[0]);
  peer.addEventListener("track", ({ track }) => {
    const speaker = (window.speaker = new Audio());
    speaker.srcObject = new MediaStream([track]);
    speaker.play();
  });
  const channel = peer.createDataChannel("oai-events");
  const opened = new Promise((resolve) => channel.addEventListener("open", resolve));
  const gathered = new Promise((resolve) => {
    peer.addEventListener("icecandidate", ({ candidate }) => candidate ?? resolve());
  });
  const offer = await peer.createOffer();
  await peer.setLocalDescription(offer);
  if (!bare) await gathered;
  const sdp = bare ? offer.sdp : peer.localDescription.sdp;
  const began = performance.now();
  const answer = await fetch(`${url}v1/realtime/calls?model=gpt-realtime`, {
    method: "POST",
    headers: { "content-type": "application/sdp", authorization: "Bearer key" },
    body: sdp,
  });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await opened;
  return {
    hosts: [...sdp.matchAll(/^a=candidate:\S+ \d+ udp \d+ (\S+)/gm)].map(([, host]) => host),
    openMs: performance.now() - began,
  };
}

// Until what came was louder than nothing.
async function heard() {
  for (;;) {
    const stats = [...(await window.peer.getStats()).values()];
    const inbound = stats.find(({ type }) => type === "inbound-rtp");
    if (inbound?.totalAudioEnergy > 0.001) return { lost: inbound.packetsLost };
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const browser = await start(wanted.chromium);
try {
  const told = [];
  for (const bare of wanted.bare) {
    const page = await browser.newPage();
    await page.goto(wanted.url);
    const seen = await page.evaluate(call, { url: wanted.url, bare });
    told.push({ ...seen, ...(await page.evaluate(heard)) });
    await page.close();
  }
  console.log(JSON.stringify(told));
} finally {
  await browser.close();
}
