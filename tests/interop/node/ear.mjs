// Runs in a page, before its own scripts: `hear(track, each)` gives what comes in as blocks of
// samples from -1 to 1 and their rate, once somebody plays the track.
export function ear() {
  window.hear = async (track, each) => {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    for (let read; !(read = await reader.read()).done; ) {
      const sound = read.value;
      const samples = new Float32Array(sound.numberOfFrames);
      sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
      each(samples, sound.sampleRate);
      sound.close();
    }
  };
  window.loudness = (samples) => {
    let power = 0;
    for (const sample of samples) power += sample * sample;
    return Math.round(Math.sqrt(power / samples.length) * 32768);
  };
}
