// Held-out rows of the data folder, some at a time. `taken` gets the promise of an image or clip with
// its words; `clips` says whether they are clips.

import { get } from "./api.js";
import { byId, make, roving } from "./dom.js";

const SHOWN = 24;

export async function examples(taken, clips) {
  const all = await get("/api/examples");
  const none = all.error || !all.length;
  byId("example-none").hidden = !none;
  for (const part of ["example-grid", "example-class", "example-others"]) byId(part).disabled = none;
  if (none) {
    document.querySelector("#panel-examples .row").hidden = true;
    return;
  }
  all.forEach((example, number) => (example.number = number));
  const grid = byId("example-grid");
  const choice = byId("example-class");
  const classes = [...new Set(all.map((example) => example.label))]; // one empty one where they have none
  choice.append(make("option", { value: "" }, "all"), ...classes.filter(Boolean).map((label) => make("option", { value: label }, label)));
  let first = 0;

  function show() {
    const wanted = all.filter((example) => !choice.value || example.label === choice.value);
    // Without a class, one of each in turn: neighbours in the data are alike.
    const rows = choice.value ? wanted : interleaved(wanted, classes);
    if (first >= rows.length) first = 0;
    grid.replaceChildren(...rows.slice(first, first + SHOWN).map((example, place) => thumbnail(example, place === 0)));
    byId("example-others").hidden = rows.length <= SHOWN;
  }

  function thumbnail(example, first) {
    const url = `/api/examples/${example.number}`;
    const inside = clips() ? example.text : make("img", { src: url, alt: example.text, width: 56, height: 56, loading: "lazy" });
    return make("button", { type: "button", title: example.text, tabindex: first ? 0 : -1, onclick: take }, inside);

    function take(event) {
      for (const other of grid.children) other.removeAttribute("aria-pressed");
      event.currentTarget.setAttribute("aria-pressed", "true");
      taken(pair());
    }

    async function pair() {
      const blob = await (await fetch(url)).blob();
      const { text: words, number, label } = example;
      return { file: { blob, name: words, example: number, label, words }, words };
    }
  }

  choice.addEventListener("change", () => {
    first = 0;
    show();
  });
  byId("example-others").addEventListener("click", () => {
    first += SHOWN;
    show();
  });
  roving(grid, "button");
  show();
}

function interleaved(rows, classes) {
  const byClass = classes.map((label) => rows.filter((row) => row.label === label));
  const mixed = [];
  for (let place = 0; mixed.length < rows.length; place++) {
    for (const members of byClass) if (place < members.length) mixed.push(members[(place * 7) % members.length]);
  }
  return [...new Set([...mixed, ...rows])];
}
