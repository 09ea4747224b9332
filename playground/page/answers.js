// One card for each target: the classes or tags as bars or the scores, the version, the time, or the client's error.

import { make, milliseconds, percent } from "./dom.js";

const SHOWN = 10; // classes, before "all"

// `order` is that of the first card, so that a class has its place in all of them.
export function card(answer, hue, order, truth) {
  const head = make(
    "header", {},
    make("h3", {}, answer.name),
    answer.version ? make("span", { class: "version" }, `version ${answer.version}`) : null,
    answer.milliseconds ? make("span", { class: "time", title: TIME }, milliseconds(answer.milliseconds)) : null,
  );
  const body = answer.error ? [refusal(answer.error)] : told(answer, order, truth);
  const made = make("article", { class: "card", "data-target": answer.name, "aria-label": answer.name }, head, ...body);
  made.style.setProperty("--hue", hue);
  return made;
}

const TIME = "From the call of client.predict to its answer: preparing the input, the network, the model";

function told(answer, order, truth) {
  const right = truth ? same(answer.decision, truth) : null;
  const mark = right === null ? null : make("span", { class: right ? "mark right" : "mark wrong" }, right ? "✓ right" : `✗ it is ${truth}`);
  if (answer.scores.length) return [make("dl", { class: "scores" }, ...answer.scores.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))];
  const sure = answer.probability === null ? null : make("span", {}, percent(answer.probability));
  const best = make("p", { class: "best" }, make("strong", {}, answer.said), " ", sure, mark);
  const share = new Map(answer.classes);
  const names = [...new Set([...order, ...share.keys()])].filter((name) => share.has(name));
  const bars = make("ol", { class: "bars" }, ...names.slice(0, SHOWN).map(bar));
  const parts = [best, bars];
  if (names.length > SHOWN) {
    parts.push(make("details", {}, make("summary", {}, `all ${names.length}`), make("ol", { class: "bars" }, ...names.slice(SHOWN).map(bar))));
  }
  return parts;

  function bar(name) {
    const length = make("span", { class: "length" });
    length.style.width = `${share.get(name) * 100}%`;
    return make(
      "li", { class: answer.chosen.includes(name) ? "top" : null },
      make("span", { class: "name", title: name }, name), make("span", { class: "bar" }, length), make("span", { class: "share" }, percent(share.get(name))),
    );
  }
}

// Tags in any order.
const same = (decision, truth) => decision.split("|").sort().join() === truth.split("|").sort().join();

// As the client says it. What it refuses before sending is no fault of the server's.
export function refusal(error) {
  const kind = error.kind === "InvalidInput" ? "refused" : "failed";
  return make("p", { class: `error ${kind}` }, make("strong", {}, error.kind), make("span", {}, error.message));
}

// In words, for the line above the cards and for screen readers.
export function verdict(answers) {
  const good = answers.filter((answer) => !answer.error);
  if (!good.length) return "No answer: see below why.";
  if (good.length === 1) return `${good[0].name}, version ${good[0].version}: ${good[0].said}${sure(good[0], ", ")}.`;
  const all = good.length === 2 ? "Both" : "All";
  if (new Set(good.map((answer) => answer.said)).size === 1) return `${all} say ${good[0].said}${good[0].probability === null ? "" : `, by ${range(good)}`}.`;
  return `They differ: ${good.map((answer) => `${answer.name} says ${answer.said}${sure(answer, " (", ")")}`).join(", ")}.`;
}

// Tags and scores have no one probability.
const sure = ({ probability }, before, after = "") => (probability === null ? "" : `${before}${percent(probability)}${after}`);

function range(answers) {
  const shares = answers.map((answer) => answer.probability);
  const [least, most] = [percent(Math.min(...shares)), percent(Math.max(...shares))];
  return least === most ? least : `${least.replace(" %", "")} to ${most}`;
}
