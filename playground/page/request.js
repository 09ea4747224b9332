// The request as Python, curl and grpcurl.

import { post } from "./api.js";
import { byId, make, tabs } from "./dom.js";

// Until there is something to ask.
const SAMPLE = { image: { file: "photo.jpg", text: "a red heart" }, audio: { file: "clip.wav", text: "a red heart" } };

export function request(state) {
  const target = byId("request-target");
  let snippets = {};
  let language = "python";
  let saved = null;

  tabs(document.querySelector(".request [role=tablist]"), (id) => {
    language = id.replace("tab-", "");
    byId("snippet").setAttribute("aria-labelledby", id);
    show();
  });
  target.addEventListener("change", update);
  byId("copy").addEventListener("click", copy);

  function show() {
    byId("code").textContent = snippets.error ? snippets.error.message : (snippets[language] ?? "");
  }

  async function update() {
    const { file, words, medium } = state;
    const given = { target: target.value, file: file?.name ?? null, example: file?.example ?? null, text: words };
    if (!file && !words.trim()) Object.assign(given, SAMPLE[medium]);
    snippets = await post("/api/request", given);
    show();
    const own = file && file.example === undefined;
    byId("save-hint").hidden = !own;
    byId("wav-hint").hidden = medium !== "audio" || !own || file.name.endsWith(".wav");
    if (own && saved !== file) {
      saved = file;
      const link = byId("save");
      URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(file.blob);
      link.download = link.textContent = file.name;
    }
  }

  async function copy() {
    const button = byId("copy");
    try {
      await navigator.clipboard.writeText(byId("code").textContent);
      button.textContent = "Copied";
    } catch { // only on a page by http from another machine: select it, for Ctrl-C
      getSelection().selectAllChildren(byId("code"));
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  // The targets that can be asked; the choice stays when it can.
  function offer(names) {
    const before = target.value;
    if ([...target.options].map((option) => option.value).join() === names.join()) return;
    target.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    if (names.includes(before)) target.value = before;
    update();
  }

  return { update, offer };
}
