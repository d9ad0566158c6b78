// A page with JsSIP registers, calls, and is called. Prints what it did, saw and heard as JSON.
//
// node jssip_page.mjs '{"origin", "url", "user", "password", "to", "chromium", "microphone",
//   "calls", "loud", "blocks", "trusts"}'
//
// The first call has keys, a hold, ICE that begins again and the page's BYE; the second waits for the
// BYE of the other side, and so does the third, which is made to the page. With `calls` 1 there is but
// one, that ends once so many `blocks` of 10 ms were `loud`. `trusts` is the hash of a key whose
// certificate is believed.

import { start } from "./browser.mjs";
import { bundle } from "./bundle.mjs";
import { ear } from "./ear.mjs";

const wanted = JSON.parse(process.argv[2]);
const WAIT_MS = 10_000;

// Runs in the page.
function phone(wanted) {
  const now = () => performance.timeOrigin + performance.now();
  const seen = (window.seen = { notes: [], blocks: [], stats: [], sdp: [] });
  const note = (call, what, detail = null) => seen.notes.push([now(), call, what, detail]);
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const media = { audio, video: false };
  const pcConfig = { iceServers: [] };
  let calls = 0;

  // Loudness and frequency of each 10 ms that come out.
  function listen(call, track) {
    // What nobody plays is not decoded.
    Object.assign(new Audio(), { srcObject: new MediaStream([track]), autoplay: true });
    return hear(track, (samples, rate) => {
      const crossings = samples.filter((sample, i) => i && sample < 0 !== samples[i - 1] < 0).length;
      const hz = (crossings * rate) / samples.length / 2;
      seen.blocks.push([now(), call, loudness(samples), Math.round(hz)]);
    });
  }

  function watch(session) {
    const call = (calls += 1);
    const observe = (peer) => {
      peer.addEventListener("connectionstatechange", () => note(call, peer.connectionState));
      peer.addEventListener("track", ({ track, streams }) => {
        note(call, "track", streams.length);
        listen(call, track);
      });
    };
    if (session.connection) observe(session.connection);
    else session.on("peerconnection", ({ peerconnection }) => observe(peerconnection));
    for (const event of ["sending", "progress", "accepted", "confirmed", "failed", "ended"]) {
      session.on(event, ({ originator, cause }) => note(call, event, cause ? `${originator}: ${cause}` : originator));
    }
    session.on("sdp", ({ originator, type, sdp }) => seen.sdp.push([call, originator, type, sdp]));
    return call;
  }

  async function measure(call, peer) {
    const all = [...(await peer.getStats()).values()];
    const of = (type) => all.find((entry) => entry.type === type && entry.kind !== "video");
    const inbound = of("inbound-rtp");
    seen.stats.push({
      call, inbound,
      outbound: of("outbound-rtp"),
      remote: of("remote-inbound-rtp"),
      transport: of("transport"),
      codec: all.find(({ id }) => id === inbound?.codecId)?.mimeType,
    });
  }

  async function call() {
    const eventHandlers = {};
    const session = ua.call(wanted.to, { mediaConstraints: media, pcConfig, eventHandlers });
    const number = watch(session);
    note(number, "called");
    await next(session, "confirmed");
    return [number, session];
  }

  const ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(wanted.url)],
    uri: `sip:${wanted.user}@127.0.0.1`,
    password: wanted.password,
    register: true,
    session_timers: false,
  });

  window.play = async () => {
    for (const event of ["connected", "disconnected", "registrationFailed"]) {
      ua.on(event, ({ code, cause }) => note(0, event, cause ?? code));
    }
    ua.start();
    await next(ua, "registered");
    note(0, "registered");

    const [first, session] = await call();
    if (wanted.calls === 1) {
      while (seen.blocks.filter(([, , rms]) => rms > wanted.loud).length < wanted.blocks) await rest(50);
      await measure(first, session.connection);
      session.terminate();
      ua.stop();
      return rest(100);
    }
    await rest(750);
    session.sendDTMF("5", { transportType: "INFO" });
    await rest(150);
    session.sendDTMF("7", { transportType: "RFC2833", duration: 160 });
    await rest(400);
    note(first, "hold asked");
    await new Promise((done) => session.hold({}, done));
    note(first, "held");
    await rest(400);
    note(first, "unhold asked");
    await new Promise((done) => session.unhold({}, done));
    note(first, "unheld");
    await rest(500);
    await measure(first, session.connection);
    note(first, "restart asked");
    await new Promise((done) => session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, done));
    note(first, "restarted");
    await rest(500);
    await measure(first, session.connection);
    session.terminate();

    const [, second] = await call();
    await next(second, "ended");

    note(3, "waits");
    const { session: third } = await new Promise((resolve) =>
      ua.on("newRTCSession", (event) => event.originator === "remote" && resolve(event)),
    );
    watch(third);
    note(3, "called");
    third.answer({ mediaConstraints: media, pcConfig });
    await next(third, "ended");
    ua.stop();
    await rest(100);
  };
}

const browser = await start(wanted.chromium, {
  microphone: wanted.microphone,
  args: [
    "--disable-features=LocalNetworkAccessChecks",
    ...(wanted.trusts ? [`--ignore-certificate-errors-spki-list=${wanted.trusts}`] : []),
  ],
});
const faults = [];
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(String(error)));
  page.setDefaultTimeout(WAIT_MS);
  await page.route(`${wanted.origin}/**`, (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html><title>phone</title>" }),
  );
  await page.goto(`${wanted.origin}/`);
  await page.evaluate(bundle("jssip", "JsSIP"));
  await page.evaluate(ear);
  await page.evaluate(phone, wanted);
  const over = new Promise((_, reject) => setTimeout(() => reject(new Error("too long")), 3 * WAIT_MS).unref());
  await Promise.race([page.evaluate(() => window.play()), over]).catch((error) => faults.push(String(error)));
  console.log(JSON.stringify({ ...(await page.evaluate(() => window.seen)), faults }));
} finally {
  await browser.close();
}
