// Small helpers. All text goes in as text: nothing from a server or a file becomes markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Arrow keys, Home and End among the items: one of them is in the tab order.
export function roving(box, selector, act = () => {}) {
  box.addEventListener("keydown", (event) => {
    const items = [...box.querySelectorAll(selector)];
    const now = items.indexOf(document.activeElement);
    if (now < 0) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(items), ArrowUp: -columns(items) };
    const to = { Home: 0, End: items.length - 1 }[event.key] ?? now + (steps[event.key] ?? NaN);
    if (Number.isNaN(to)) return;
    event.preventDefault();
    const next = items[(to + items.length) % items.length];
    for (const item of items) item.tabIndex = item === next ? 0 : -1;
    next.focus();
    act(next);
  });
}

function columns(items) {
  const row = items.filter((item) => item.offsetTop === items[0].offsetTop).length;
  return row === items.length ? 1 : row;
}

// A tab list: `show` gets the id of the tab that is chosen.
export function tabs(list, show) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of all) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    show(tab.id);
  };
  for (const tab of all) tab.addEventListener("click", () => choose(tab));
  roving(list, "[role=tab]:not([hidden])", choose);
  return (id) => choose(byId(id));
}

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
