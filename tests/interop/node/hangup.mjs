// A call by the plain API of a page, hung up by REST: prints what the page hears of it as JSON,
// [milliseconds after it was asked, what].
//
// node hangup.mjs '{"url", "chromium"}'

import { TELLS_ADDRESSES, start } from "./browser.mjs";

const wanted = JSON.parse(process.argv[2]);
const WAIT_MS = 20_000;

async function call(url) {
  const seen = (window.seen = []);
  const note = (what) => seen.push([performance.now(), what]);
  const peer = (window.peer = new RTCPeerConnection());
  const [track] = new AudioContext().createMediaStreamDestination().stream.getAudioTracks();
  peer.addTrack(track);
  const channel = peer.createDataChannel("oai-events");
  channel.addEventListener("open", () => channel.send('{"type":"response.create"}'));
  channel.addEventListener("message", ({ data }) => note(JSON.parse(data).type));
  channel.addEventListener("close", () => note("channel closed"));
  peer.addEventListener("connectionstatechange", () => note(`peer ${peer.connectionState}`));
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(`${url}v1/realtime/calls?model=gpt-realtime`, {
    method: "POST",
    headers: { "content-type": "application/sdp", authorization: "Bearer key" },
    body: peer.localDescription.sdp,
  });
  // One pair of addresses: with another to try, it is disconnected before it has failed.
  const sdp = (await answer.text()).replace(/(a=candidate:.*\r\n)(a=candidate:.*\r\n)+/g, "$1");
  await peer.setRemoteDescription({ type: "answer", sdp });
  return new URL(answer.headers.get("location"), url).href;
}

async function hangup(url) {
  const asked = performance.now();
  await fetch(`${url}/hangup`, { method: "POST", headers: { authorization: "Bearer key" } });
  return asked;
}

const browser = await start(wanted.chromium, { args: [TELLS_ADDRESSES] });
try {
  const page = await browser.newPage();
  const until = (...any) =>
    page.waitForFunction((any) => window.seen.some(([, what]) => any.includes(what)), any, {
      timeout: WAIT_MS,
    });
  await page.goto(wanted.url);
  const url = await page.evaluate(call, wanted.url);
  await until("output_audio_buffer.started");
  const asked = await page.evaluate(hangup, url);
  await until("channel closed");
  await until("peer failed", "peer closed");
  const seen = await page.evaluate(() => window.seen);
  const after = seen.filter(([at]) => at >= asked).map(([at, what]) => [at - asked, what]);
  console.log(JSON.stringify(after));
} finally {
  await browser.close();
}
