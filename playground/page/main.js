// Ties the parts together: what is given, who is asked, what they say.

import { card, refusal, verdict } from "./answers.js";
import { base64, get, post } from "./api.js";
import { byId, make, tabs } from "./dom.js";
import { drawing } from "./draw.js";
import { examples } from "./examples.js";
import { present, refused, speak } from "./input.js";
import { recording } from "./record.js";
import { request } from "./request.js";
import { why } from "./why.js";

const PAUSE = 200; // milliseconds without a key before asking
const LOOK = 3000; // between looks at what is served, to see a rollout happen

const state = { file: null, words: "", medium: "image", targets: [], chosen: null, coming: null };
const snippets = request(state);
let asking = new AbortController();
let timer = 0;

function give(file, words = state.words) {
  const error = refused(file);
  if (error) return trouble(error);
  state.file = file;
  state.words = words;
  if (byId("words").value !== words) byId("words").value = words;
  present(file, state.medium, there()[0]?.name ?? state.targets[0].name);
  later(0);
}

// A file that is still on its way: of several, the last one counts.
async function receive(coming) {
  busy();
  const mine = (state.coming = coming);
  const { file, words } = await coming;
  if (state.coming === mine) give(file, words);
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

async function ask() {
  const { signal } = (asking = new AbortController());
  const { file, words } = state;
  const shown = snippets.update();
  try {
    const answers = [];
    if (file || words.trim()) {
      const data = file && (await base64(file.blob));
      // One after the other, so that the times are not each other's.
      for (const target of chosen()) {
        answers.push({ name: target, ...(await post("/api/predict", { target, data, text: words }, signal)) });
      }
    }
    await shown;
    if (signal.aborted) return;
    show(answers);
    if (byId("why").checked) await explain(answers, signal);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

// After the answers, which it must not delay: a version answers a hundred times for it.
async function explain(answers, signal) {
  const { file, words } = state;
  const data = file && (await base64(file.blob));
  for (const { name, version, error } of answers) {
    if (error || !served(name)?.explains) continue;
    const found = await post("/api/explain", { target: name, data, text: words }, signal);
    if (signal.aborted) return;
    const card = document.querySelector(`.card[data-target="${CSS.escape(name)}"]`);
    if (found.error || found.version === version) card?.append(why(found, state.medium));
  }
}

function show(answers) {
  const order = (answers.find((answer) => !answer.error)?.classes ?? []).map(([name]) => name);
  const box = byId("answers");
  box.replaceChildren(...answers.map((answer) => card(answer, hue(answer.name), order, truth())));
  byId("verdict").textContent = answers.length ? verdict(answers) : nothing();
  box.setAttribute("aria-busy", "false");
  if (answers.some((answer) => answer.version && answer.version !== served(answer.name)?.version)) look();
}

function nothing() {
  if (state.file || state.words.trim()) return "Choose whom to ask.";
  return `Take ${state.medium === "audio" ? "a clip" : "an image"}, or type words.`;
}

// The true class, while the pair is still the data's own.
const truth = () => (state.file?.example !== undefined && state.words === state.file.words ? state.file.label : undefined);

const there = () => state.targets.filter((target) => !target.error);
const served = (name) => state.targets.find((target) => target.name === name);
const chosen = () => state.targets.map((target) => target.name).filter((name) => state.chosen?.has(name));

// A colour for each target: blue, amber, then others far from both.
const hue = (name) => [222, 38, 165, 320, 95][state.targets.findIndex((target) => target.name === name) % 5];

async function look() {
  const about = await get("/api/about");
  if (about.error) return trouble(about.error);
  const { model, server, targets } = about;
  byId("where").replaceChildren("model ", make("strong", {}, model), " at ", make("code", {}, server));
  const before = state.targets.map((target) => [target.name, target.version]).join();
  state.targets = targets;
  trouble(there().length ? null : targets[0].error);
  if (!state.chosen && there().length) {
    const labelled = there().filter((target) => target.name !== "latest");
    state.chosen = new Set((labelled.length ? labelled : there()).map((target) => target.name));
  }
  const medium = there()[0]?.medium ?? state.medium;
  if (medium !== state.medium) speak((state.medium = medium));
  byId("ask-why").hidden = !there().some((target) => target.explains);
  if (before === targets.map((target) => [target.name, target.version]).join()) return;
  byId("targets").replaceChildren(...targets.map(choice));
  snippets.offer((there().length ? there() : targets).map((target) => target.name));
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

function about({ size, tokens, columns, optional }) {
  const needs = optional.length ? `may do without ${optional.join(" or ")}` : "needs both inputs";
  return `${size[1]}×${size[0]} pixels, ${tokens} tokens, ${columns}; ${needs}`;
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

function takeFile(blob, name = blob?.name) {
  if (!blob) return;
  chooseSource("tab-file");
  give({ blob, name });
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
  const file = [...(event.clipboardData?.files ?? [])].find((item) => item.type.startsWith(`${state.medium}/`));
  if (file) takeFile(file, file.type === "image/png" ? "pasted.png" : file.name);
});
byId("no-picture").addEventListener("click", () => {
  give(null);
  byId("words").focus();
});
byId("words").addEventListener("input", (event) => {
  state.words = event.target.value;
  later();
});
byId("why").addEventListener("change", () => later(0));
byId("again").addEventListener("click", () => later(0));

drawing(receive);
recording(receive);
await look();
examples(receive, () => state.medium === "audio");
setInterval(() => document.hidden || look(), LOOK);
