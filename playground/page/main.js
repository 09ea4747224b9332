// Ties the parts together: what is given, who is asked, what they say.

import { card, refusal, verdict } from "./answers.js";
import { base64, get, post } from "./api.js";
import { byId, make, tabs } from "./dom.js";
import { drawing } from "./draw.js";
import { examples } from "./examples.js";
import { request } from "./request.js";

const PAUSE = 200; // milliseconds without a key before asking
const LOOK = 3000; // between looks at what is served, to see a rollout happen
const LARGEST = 45 << 20; // bytes of a picture: as base64 it must fit the playground's 64 MiB

const state = { picture: null, words: "", targets: [], chosen: null, coming: null };
const snippets = request(state);
let asking = new AbortController();
let timer = 0;

function give(picture, words = state.words) {
  if (picture && picture.blob.size > LARGEST) {
    trouble({ kind: "Too large", message: `Expected a picture of at most ${LARGEST >> 20} MiB. Received: ${picture.name}` });
    return;
  }
  state.picture = picture;
  state.words = words;
  if (byId("words").value !== words) byId("words").value = words;
  const preview = byId("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = byId("no-picture").hidden = !picture;
  if (picture) {
    preview.src = URL.createObjectURL(picture.blob);
    preview.alt = picture.name;
  } else preview.removeAttribute("src");
  byId("picture-name").textContent = picture ? picture.name : "no picture";
  if (picture?.example === undefined) for (const thumb of byId("example-grid").children) thumb.removeAttribute("aria-pressed");
  later(0);
}

// A picture that is still on its way: of several, the last one counts.
async function receive(coming) {
  busy();
  const mine = (state.coming = coming);
  const { picture, words } = await coming;
  if (state.coming === mine) give(picture, words);
}

function busy() {
  clearTimeout(timer);
  asking.abort();
  byId("answers").setAttribute("aria-busy", "true");
}

function later(pause = PAUSE) {
  busy();
  timer = setTimeout(ask, pause);
}

// The true class, while the pair is still the data's own.
const truth = () => (state.picture?.example !== undefined && state.words === state.picture.words ? state.picture.label : undefined);

async function ask() {
  const { signal } = (asking = new AbortController());
  const box = byId("answers");
  const shown = snippets.update();
  if (!state.picture && !state.words.trim()) {
    box.replaceChildren();
    byId("verdict").textContent = "Take a picture, or type words.";
    await shown;
    box.setAttribute("aria-busy", "false");
    return;
  }
  try {
    const image = state.picture && (await base64(state.picture.blob));
    const answers = [];
    // One after the other, so that the times are not each other's.
    for (const target of chosen()) {
      answers.push({ name: target, ...(await post("/api/predict", { target, image, text: state.words }, signal)) });
    }
    await shown;
    if (signal.aborted) return;
    show(answers);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  }
  box.setAttribute("aria-busy", "false");
}

function show(answers) {
  const order = (answers.find((answer) => !answer.error)?.classes ?? []).map(([name]) => name);
  byId("answers").replaceChildren(...answers.map((answer) => card(answer, hue(answer.name), order, truth())));
  byId("verdict").textContent = answers.length ? verdict(answers) : "Choose whom to ask.";
  if (answers.some((answer) => answer.version && answer.version !== served(answer.name)?.version)) look();
}

const served = (name) => state.targets.find((target) => target.name === name);
const chosen = () => state.targets.map((target) => target.name).filter((name) => state.chosen?.has(name));

// A colour for each target: blue, amber, then others far from both.
const hue = (name) => [222, 38, 165, 320, 95][state.targets.findIndex((target) => target.name === name) % 5];

async function look() {
  const about = await get("/api/about");
  if (about.error) return trouble(about.error);
  const { model, server, targets } = about;
  byId("where").replaceChildren("model ", make("strong", {}, model), " at ", make("code", {}, server));
  const there = targets.filter((target) => !target.error);
  const before = state.targets.map((target) => [target.name, target.version]).join();
  state.targets = targets;
  trouble(there.length ? null : targets[0].error);
  if (!state.chosen && there.length) {
    const labelled = there.filter((target) => target.name !== "latest");
    state.chosen = new Set((labelled.length ? labelled : there).map((target) => target.name));
  }
  if (before === targets.map((target) => [target.name, target.version]).join()) return;
  byId("targets").replaceChildren(...targets.map(choice));
  snippets.offer((there.length ? there : targets).map((target) => target.name));
  later(0);
}

function choice(target) {
  const box = make("input", { type: "checkbox", value: target.name, checked: state.chosen?.has(target.name) });
  box.addEventListener("change", () => {
    state.chosen ??= new Set();
    state.chosen[box.checked ? "add" : "delete"](target.name);
    later(0);
  });
  const facts = target.error
    ? make("small", { title: target.error.message }, target.error.kind)
    : make("small", { title: about(target) }, `version ${target.version}`);
  const made = make("label", { class: target.error ? "chip gone" : "chip" }, box, make("span", {}, target.name), facts);
  made.style.setProperty("--hue", hue(target.name));
  return made;
}

function about({ size, tokens, labels, optional }) {
  const needs = optional.length ? `may do without ${optional.join(" or ")}` : "needs both inputs";
  return `${size[1]}×${size[0]} pixels, ${tokens} tokens, ${labels.length} classes; ${needs}`;
}

function trouble(error) {
  const line = byId("trouble");
  line.hidden = !error;
  line.replaceChildren(...(error ? refusal(error).childNodes : []));
}

const chooseSource = tabs(document.querySelector(".input [role=tablist]"), (id) => {
  for (const panel of document.querySelectorAll(".input [role=tabpanel]")) {
    panel.hidden = panel.getAttribute("aria-labelledby") !== id;
  }
});

function takeFile(file, name) {
  if (!file) return;
  chooseSource("tab-file");
  give({ blob: file, name: name ?? file.name });
}

byId("file").addEventListener("change", (event) => {
  takeFile(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  takeFile(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((item) => item.type.startsWith("image/"));
  if (file) takeFile(file, "pasted.png");
});
byId("no-picture").addEventListener("click", () => {
  give(null);
  byId("words").focus();
});
byId("words").addEventListener("input", (event) => {
  state.words = event.target.value;
  later();
});
byId("again").addEventListener("click", () => later(0));

drawing(receive);
examples(receive);
look();
setInterval(() => document.hidden || look(), LOOK);
