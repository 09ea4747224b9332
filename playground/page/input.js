// The input: the file (an image or a clip) and the words, and how the page shows them.

import { base64, post } from "./api.js";
import { byId } from "./dom.js";

const LARGEST = 45 << 20; // bytes: as base64 a file must fit the playground's 64 MiB

// Why a file can't be taken, null when it can.
export const refused = (file) =>
  file && file.blob.size > LARGEST
    ? { kind: "Too large", message: `Expected a file of at most ${LARGEST >> 20} MiB. Received: ${file.name}` }
    : null;

// Shows the file beside the words. Of a clip it shows what `target` sees of it: its spectrogram.
export async function present(file, medium, target) {
  const [preview, player] = [byId("preview"), byId("player")];
  for (const element of [preview, player]) {
    if (element.src) URL.revokeObjectURL(element.src);
    element.removeAttribute("src");
    element.hidden = true;
  }
  byId("no-picture").hidden = !file;
  byId("picture-name").textContent = file?.name ?? (medium === "audio" ? "no clip" : "no image");
  if (file?.example === undefined) for (const thumb of byId("example-grid").children) thumb.removeAttribute("aria-pressed");
  if (!file) return;
  preview.alt = file.name;
  if (medium === "image") {
    preview.src = URL.createObjectURL(file.blob);
    preview.hidden = false;
    return;
  }
  player.src = URL.createObjectURL(file.blob);
  player.hidden = false;
  const seen = await post("/api/seen", { target, data: await base64(file.blob) });
  if (seen.blob && player.src && byId("picture-name").textContent === file.name) {
    preview.src = URL.createObjectURL(seen.blob);
    preview.alt = `Spectrogram of ${file.name}`;
    preview.hidden = false;
  }
}

// The page speaks of clips where the model takes clips.
export function speak(medium) {
  const clips = medium === "audio";
  document.body.classList.toggle("clips", clips);
  for (const element of document.querySelectorAll("[data-audio]")) {
    element.dataset.image ??= element.textContent;
    element.textContent = clips ? element.dataset.audio : element.dataset.image;
  }
  byId("tab-draw").hidden = clips;
  byId("tab-record").hidden = !clips;
  byId("file").accept = clips ? "audio/*,.wav,.flac,.ogg" : "image/*";
}
