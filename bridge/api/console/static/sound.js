// What is heard beside the call: level meters of both sides, and the tone of a key.

const FLOOR_DB = -54;
const FALL_PER_FRAME = 0.03;
const LOW = [697, 770, 852, 941];
const HIGH = [1209, 1336, 1477];
const ROWS = ["123", "456", "789", "*0#"];

let context = null;

function audio() {
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume();
  return context;
}

export class Meter {
  #bar;
  #source = null;
  #frame = 0;
  #level = 0;

  constructor(element) {
    this.#bar = element.querySelector("i");
  }

  start(stream) {
    this.stop();
    const analyser = new AnalyserNode(audio(), { fftSize: 512 });
    this.#source = audio().createMediaStreamSource(stream);
    this.#source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const level = Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / FLOOR_DB);
      this.#show(Math.max(level, this.#level - FALL_PER_FRAME));
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#source?.disconnect();
    this.#source = null;
    this.#show(0);
  }

  #show(level) {
    this.#level = level;
    this.#bar.style.transform = `scaleX(${level.toFixed(3)})`;
  }
}

// A key that makes no sound feels broken; quiet, because the far end hears its own.
export function tone(digit) {
  const row = ROWS.findIndex((keys) => keys.includes(digit));
  const sink = new GainNode(audio(), { gain: 0.04 });
  sink.connect(audio().destination);
  for (const frequency of [LOW[row], HIGH[ROWS[row].indexOf(digit)]]) {
    const oscillator = new OscillatorNode(audio(), { frequency });
    oscillator.connect(sink);
    oscillator.start();
    oscillator.stop(audio().currentTime + 0.12);
  }
}
