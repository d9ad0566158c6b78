// Calls the agent from the console page as its user does, and prints what the browser saw as JSON.
//
// node console.mjs '{"url", "chromium", "microphone", "key", "shots"}': the WAV to speak, the key to
// press once two sentences were heard, the folder for screenshots.

import { TELLS_ADDRESSES, start } from "./browser.mjs";
import { ear } from "./ear.mjs";

const wanted = JSON.parse(process.argv[2]);
const WAIT_MS = 25_000;

// Runs in the page before its own scripts: keeps its peer connection, listens to what it gets.
function observe() {
  const seen = (window.seen = { states: [], messages: [], levels: [], stats: [] });
  const now = () => performance.timeOrigin + performance.now();

  const listen = (track) =>
    hear(track, (samples, rate) => {
      seen.levels.push([now(), (1000 * samples.length) / rate, loudness(samples)]);
    });

  async function measure(peer) {
    const at = now();
    const all = [...(await peer.getStats()).values()];
    const codec = ({ codecId }) => all.find(({ id }) => id === codecId);
    const of = (type) => all.find((entry) => entry.type === type && entry.kind === "audio");
    const inbound = of("inbound-rtp");
    const outbound = of("outbound-rtp");
    if (!inbound || !outbound) return;
    seen.stats.push({
      at, inbound, outbound,
      remote: of("remote-inbound-rtp"),
      codecs: { inbound: codec(inbound), outbound: codec(outbound) },
    });
  }

  class Observed extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener("connectionstatechange", () => {
        seen.states.push([now(), this.connectionState]);
      });
      this.addEventListener("track", ({ track }) => listen(track));
      const timer = setInterval(() => {
        if (this.connectionState === "closed") return clearInterval(timer);
        if (this.connectionState === "connected") measure(this);
      }, 200);
    }

    createDataChannel(...options) {
      const channel = super.createDataChannel(...options);
      channel.addEventListener("message", ({ data }) => {
        seen.messages.push([now(), JSON.parse(data)]);
      });
      return channel;
    }
  }
  window.RTCPeerConnection = Observed;
  document.addEventListener("click", ({ target }) => {
    if (target.closest("#call")) seen.pressed ??= now();
  }, true);
}

const browser = await start(wanted.chromium, {
  microphone: `${wanted.microphone}%noloop`,
  args: [TELLS_ADDRESSES],
});

const VIEWS = [
  ["1280-light", 1280, 800, "light"],
  ["1280-dark", 1280, 800, "dark"],
  ["390-light", 390, 844, "light"],
];

async function shoot(page, name) {
  for (const [view, width, height, colorScheme] of VIEWS) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    await page.screenshot({ path: `${wanted.shots}/${name}-${view}.png`, fullPage: width < 700 });
  }
  const [, width, height, colorScheme] = VIEWS[0];
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width, height });
}

const stopped = (page, count) =>
  page.waitForFunction(
    (count) =>
      window.seen.messages.filter(([, { type }]) => type === "output_audio_buffer.stopped").length >= count,
    count,
    { timeout: WAIT_MS },
  );

const faults = [];
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(wanted.url)) faults.push(`asked ${request.url()}`);
  });
  await page.addInitScript(ear);
  await page.addInitScript(observe);
  await page.goto(wanted.url);
  await page.getByText("connected", { exact: true }).waitFor();
  await shoot(page, "idle");

  await page.getByRole("button", { name: "Call", exact: true }).click();
  await page.getByText("On call", { exact: true }).waitFor();
  // The greeting, then the answer to what the microphone said.
  await stopped(page, 1);
  await stopped(page, 2);
  await shoot(page, "talking");
  const keyed = await page.evaluate(() => performance.timeOrigin + performance.now());
  await page.locator("#keypad").getByRole("button", { name: wanted.key, exact: true }).click();
  await page.getByText("Ended", { exact: true }).waitFor({ timeout: WAIT_MS });
  await shoot(page, "ended");

  const found = await page.evaluate(() => ({
    ...window.seen,
    display: document.querySelector(".display").textContent.replace(/\s+/g, " ").trim(),
    transcript: [...document.querySelectorAll("#transcript li")].map((line) =>
      [...line.children].map((cell) => cell.textContent),
    ),
    events: [...document.querySelectorAll("#events .type")].map((type) => type.textContent),
  }));
  console.log(JSON.stringify({ ...found, keyed, faults }));
} finally {
  await browser.close();
}
