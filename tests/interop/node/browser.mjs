import { chromium } from "playwright-core";

// Headless Chromium that keeps to itself, plays without being touched, and hears `microphone`, a
// WAV, if there is one: over and over, or once with "%noloop" behind it.
export const start = (executablePath, { microphone, args = [], ...options } = {}) =>
  chromium.launch({
    executablePath,
    headless: true,
    args: [
      ...(microphone
        ? [
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            `--use-file-for-fake-audio-capture=${microphone}`,
          ]
        : []),
      "--autoplay-policy=no-user-gesture-required",
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
    ...options,
  });

export const TELLS_ADDRESSES = "--disable-features=WebRtcHideLocalIpsWithMdns";
