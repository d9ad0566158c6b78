// Calls from a page, says a WAV and keeps what it hears; prints its rate and getStats() as JSON.
//
// node voice.mjs '{"url", "chromium", "microphone", "codec", "seconds", "heard"}': where the offer
// goes, the WAV to speak, the codec to put first, how long to stay from when it is connected, and
// the file for what was heard: 16 bit, mono, without a header.

import { writeFileSync } from "node:fs";

import { TELLS_ADDRESSES, start } from "./browser.mjs";
import { ear } from "./ear.mjs";

const wanted = JSON.parse(process.argv[2]);

async function call({ url, codec, seconds }) {
  let chunks = [];
  let rate = 0;
  const listen = (track) =>
    hear(track, (samples, now) => {
      if (now !== rate) {
        // That of the codec, once something has come.
        chunks = [];
        rate = now;
      }
      chunks.push(Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768)))));
    });

  const peer = new RTCPeerConnection();
  const connected = new Promise((done, fail) => {
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "connected") done();
      if (peer.connectionState === "failed") fail(new Error("not connected"));
    };
  });
  peer.ontrack = ({ track }) => {
    // What nobody plays is not decoded.
    const player = (window.player = new Audio());
    player.srcObject = new MediaStream([track]);
    player.play();
    listen(track);
  };
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: untouched });
  peer.addTrack(microphone.getAudioTracks()[0], microphone);
  const [transceiver] = peer.getTransceivers();
  const known = RTCRtpSender.getCapabilities("audio").codecs;
  const first = known.filter(({ mimeType }) => mimeType.toLowerCase() === `audio/${codec.toLowerCase()}`);
  if (!first.length) throw new Error(`no ${codec} here`);
  transceiver.setCodecPreferences([...first, ...known.filter((each) => !first.includes(each))]);
  await peer.setLocalDescription(await peer.createOffer());
  await new Promise((done) => {
    const look = () => peer.iceGatheringState === "complete" && done();
    peer.onicegatheringstatechange = look;
    look();
  });
  const answer = await fetch(url, { method: "POST", body: peer.localDescription.sdp });
  if (!answer.ok) throw new Error(`${answer.status}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await connected;
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  const stats = [...(await peer.getStats()).values()];
  peer.close();

  const octets = new Uint8Array(await new Blob(chunks).arrayBuffer());
  let text = "";
  for (let at = 0; at < octets.length; at += 32768) {
    text += String.fromCharCode(...octets.subarray(at, at + 32768));
  }
  return { heard: btoa(text), rate, stats };
}

const browser = await start(wanted.chromium, {
  microphone: `${wanted.microphone}%noloop`,
  args: [TELLS_ADDRESSES, "--allow-loopback-in-peer-connection"],
  ignoreDefaultArgs: ["--mute-audio"],
});
try {
  const page = await browser.newPage();
  await page.goto(new URL("/", wanted.url).href);
  await page.evaluate(ear);
  const { heard, ...told } = await page.evaluate(call, wanted);
  writeFileSync(wanted.heard, Buffer.from(heard, "base64"));
  console.log(JSON.stringify(told));
} finally {
  await browser.close();
}
