// Why a version says what it says: the heat map, the coloured words, and how much each input counts.

import { make, percent } from "./dom.js";

const FOR = [230, 97, 1]; // as the client draws the heat map
const AGAINST = [33, 102, 214];
const STRONGEST = 0.75;

// `medium` is "image" or "audio". What could not be explained is said in the client's words.
export function why(found, medium) {
  if (found.error) return make("p", { class: "hint" }, `No explanation: ${found.error.message}`);
  const parts = [make("h4", {}, `What speaks for ${found.label}`)];
  if (found.image_share || found.text_share) parts.push(shares(found, medium));
  const drawn = [];
  if (found.heat_map) drawn.push(heat(found, medium));
  if (found.words.length) drawn.push(words(found));
  parts.push(make("div", { class: "evidence" }, ...drawn));
  return make("section", { class: "why", "aria-label": `Why ${found.name} says so` }, ...parts);
}

function shares({ image_share: image, text_share: text }, medium) {
  const bar = make("span", { class: "split", "aria-hidden": "true" }, make("span", { class: "of-image" }), make("span", { class: "of-text" }));
  bar.firstChild.style.width = `${image * 100}%`;
  bar.lastChild.style.width = `${text * 100}%`;
  const name = medium === "audio" ? "clip" : "image";
  const title = "How much each input adds: its Shapley value";
  return make("p", { class: "shares", title }, make("span", {}, `${name} ${percent(image)}`), bar, make("span", {}, `words ${percent(text)}`));
}

function heat(found, medium) {
  const bytes = Uint8Array.from(atob(found.heat_map), (character) => character.charCodeAt(0));
  const over = medium === "audio" ? "spectrogram" : "image";
  const picture = make("img", { class: "heat", alt: `Heat map over the ${over}: orange speaks for ${found.label}, blue against it` });
  picture.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
  return picture;
}

function words({ text, words: all, is_score: isScore }) {
  const most = Math.max(...all.map((word) => Math.abs(word.relevance)));
  const characters = [...text]; // Python counts characters, JavaScript halves of some
  const line = make("p", { class: "spoken", dir: "auto" });
  let end = 0;
  for (const word of all) {
    line.append(characters.slice(end, word.start).join(""));
    line.append(coloured(word, most > 1e-6 ? word.relevance / most : 0, isScore ? (amount) => amount.toPrecision(3) : percent));
    end = word.start + [...word.text].length;
  }
  line.append(characters.slice(end).join(""));
  return line;
}

function coloured({ text, relevance }, strength, shown) {
  const colour = strength > 0 ? FOR : AGAINST;
  const blend = colour.map((part) => Math.round(255 + (part - 255) * Math.abs(strength) * STRONGEST));
  const mark = make("mark", { title: `without it ${relevance < 0 ? "+" : "\u2212"}${shown(Math.abs(relevance))}` }, text);
  mark.style.backgroundColor = `rgb(${blend.join(" ")})`;
  return mark;
}
