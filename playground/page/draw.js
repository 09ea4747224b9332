// The drawing area: pen, finger, or arrow keys and space. After every stroke `changed` gets the promise of a PNG.

import { byId, make, roving } from "./dom.js";

const COLOURS = [
  ["black", "#1b1b1f"], ["red", "#e5383b"], ["orange", "#f48c06"], ["yellow", "#ffd23f"], ["green", "#2a9d4a"],
  ["blue", "#2f6fed"], ["purple", "#8e44ad"], ["pink", "#f78fb3"], ["brown", "#8d5a2b"], ["white", "#ffffff"],
];
const UNDO = 30;
const STEP = 12;

export function drawing(changed) {
  const canvas = byId("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const width = byId("pen");
  const before = [];
  let colour = COLOURS[0][1];
  let at = null; // where the pen is on the paper
  let hand = { x: canvas.width / 2, y: canvas.height / 2, down: false }; // the keyboard's pen

  pen.lineCap = pen.lineJoin = "round";
  blank();
  palette();

  function blank() {
    pen.fillStyle = "#fff"; // an image without alpha, as the models see it
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }

  function remember() {
    before.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    if (before.length > UNDO) before.shift();
  }

  function line(to) {
    pen.strokeStyle = colour;
    pen.lineWidth = Number(width.value);
    pen.beginPath();
    pen.moveTo(at.x, at.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
    at = to;
  }

  const picture = (blob) => ({ file: { blob, name: "drawing.png" } });
  const done = () => changed(new Promise((resolve) => canvas.toBlob((blob) => resolve(picture(blob)), "image/png")));
  const gone = () => changed(Promise.resolve({ file: null }));

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    remember();
    at = place(event);
    line(at);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (at) for (const each of event.getCoalescedEvents?.() ?? [event]) line(place(each));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (!at) return;
      at = null;
      done();
    });
  }

  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move) {
      const to = {
        x: Math.min(Math.max(hand.x + move[0] * STEP, 0), canvas.width),
        y: Math.min(Math.max(hand.y + move[1] * STEP, 0), canvas.height),
        down: hand.down,
      };
      if (hand.down) {
        at = hand;
        line(to);
        at = null;
      }
      hand = to;
    } else if (event.key === " ") {
      hand.down = !hand.down;
      if (hand.down) remember();
      else done();
    } else return;
    event.preventDefault();
    show();
  });
  canvas.addEventListener("blur", () => {
    if (hand.down) done();
    hand.down = false;
    show();
  });
  canvas.addEventListener("focus", show);

  // The keyboard's pen, as a dot over the paper: it is not part of the image.
  function show() {
    const easel = canvas.parentElement;
    easel.classList.toggle("keyed", canvas.matches(":focus-visible"));
    easel.classList.toggle("down", hand.down);
    easel.style.setProperty("--x", `${(hand.x / canvas.width) * 100}%`);
    easel.style.setProperty("--y", `${(hand.y / canvas.height) * 100}%`);
  }

  function palette() {
    const box = byId("colours");
    for (const [name, value] of COLOURS) {
      const swatch = make("button", { type: "button", role: "radio", "aria-label": name, title: name });
      swatch.style.setProperty("--swatch", value);
      swatch.addEventListener("click", () => choose(swatch, value));
      swatch.value = value;
      box.append(swatch);
    }
    choose(box.firstElementChild, colour);
    roving(box, "[role=radio]", (swatch) => choose(swatch, swatch.value));

    function choose(swatch, value) {
      colour = value;
      for (const other of box.children) {
        other.setAttribute("aria-checked", String(other === swatch));
        other.tabIndex = other === swatch ? 0 : -1;
      }
    }
  }

  byId("undo").addEventListener("click", () => {
    const last = before.pop();
    if (!last) return;
    pen.putImageData(last, 0, 0);
    if (before.length) done();
    else gone();
  });
  byId("clear").addEventListener("click", () => {
    remember();
    blank();
    gone();
  });
}
