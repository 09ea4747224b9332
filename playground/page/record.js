// A recording from the microphone, as a WAV of 16-bit integers: what every version that takes clips can read.

import { byId } from "./dom.js";

export function recording(changed) {
  const button = byId("record");
  const said = byId("recording");
  let recorder = null;

  button.addEventListener("click", async () => {
    if (recorder) {
      recorder.stop();
      return;
    }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const chunks = [];
      recorder = new MediaRecorder(stream);
      recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
      recorder.addEventListener("stop", () => {
        for (const track of stream.getTracks()) track.stop();
        recorder = null;
        button.textContent = "Record";
        said.textContent = "Recorded.";
        changed(wav(new Blob(chunks)).then((blob) => ({ file: { blob, name: "recording.wav" } })));
      });
      recorder.start();
      button.textContent = "Stop";
      said.textContent = "Recording …";
    } catch (error) {
      recorder = null;
      said.textContent = `No microphone: ${error.message}`;
    }
  });
}

async function wav(blob) {
  const context = new AudioContext();
  try {
    const sound = await context.decodeAudioData(await blob.arrayBuffer());
    const channels = Array.from({ length: sound.numberOfChannels }, (_, number) => sound.getChannelData(number));
    const view = new DataView(new ArrayBuffer(44 + sound.length * 2));
    const tag = (at, text) => [...text].forEach((letter, place) => view.setUint8(at + place, letter.charCodeAt(0)));
    tag(0, "RIFF");
    view.setUint32(4, 36 + sound.length * 2, true);
    tag(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // integers
    view.setUint16(22, 1, true); // one channel
    view.setUint32(24, sound.sampleRate, true);
    view.setUint32(28, sound.sampleRate * 2, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    tag(36, "data");
    view.setUint32(40, sound.length * 2, true);
    for (let place = 0; place < sound.length; place++) {
      const mean = channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length;
      view.setInt16(44 + place * 2, Math.max(-1, Math.min(1, mean)) * 32767, true);
    }
    return new Blob([view], { type: "audio/wav" });
  } finally {
    context.close();
  }
}
