// A slider and its number field, one value. While it is dragged the newest value is sent whenever the effect of the last one is on
// the screen (see settled.js), so that nothing queues up; the last one, when it is let go, is sent at once and counts as one step.

const LEAST_MS = 100; // between two values of a drag
const PATIENCE_MS = 1000; // an effect that takes longer is not waited for
const instances = new WeakMap();

export default function (component) {
  const root = component.parentElement.querySelector(".slider");
  let view = instances.get(root);
  if (!view) {
    view = new Slider(root);
    instances.set(root, view);
  }
  view.transmit = (entry) => component.setStateValue("entry", entry);
  view.draw(component.data);
}

class Slider {
  constructor(root) {
    this.root = root;
    this.range = root.querySelector("input[type=range]");
    this.number = root.querySelector("input[type=number]");
    this.wanted = null; // what has been entered and not been sent yet
    this.sent = 0; // the time of the last entry that was sent, which also names it
    this.waiting = false; // for the effect of that one
    this.ended = null; // the last value, where it was let go
    this.open = false; // values of a drag, or of a key that is held down, have been entered and not the last one
    this.dragging = this.repeating = false;
    const { range, number } = this;
    range.addEventListener("pointerdown", () => (this.dragging = true));
    range.addEventListener("input", () => this.moved());
    range.addEventListener("change", () => this.changed());
    range.addEventListener("keydown", (event) => (this.repeating = event.repeat));
    for (const end of ["pointerup", "pointercancel", "keyup", "blur"]) range.addEventListener(end, () => this.letGo());
    number.addEventListener("change", () => this.typed());
    number.addEventListener("keydown", (event) => event.key === "Escape" && this.show(this.value));
    const settled = (event) => {
      if (!root.isConnected) return window.removeEventListener("maet-settled", settled);
      if (event.detail >= this.sent) this.waiting = false;
      this.next();
    };
    window.addEventListener("maet-settled", settled);
  }

  draw(data) {
    this.data = data;
    const { range, number } = this;
    this.root.querySelector("label").textContent = data.label;
    range.setAttribute("aria-label", data.label);
    number.setAttribute("aria-label", `${data.label}, exact`);
    this.root.querySelector(".unit").textContent = data.unit;
    // Its own value stays until the server has seen all of it; then the server's counts, whoever set it.
    if (this.open || data.seen < this.sent) return;
    const stops = data.stops;
    range.min = stops ? 0 : data.low;
    range.max = stops ? stops.length - 1 : data.high;
    range.step = stops ? 1 : data.step;
    this.ended = null;
    [number.min, number.max] = data.limits;
    number.step = stops ? "any" : data.step;
    this.show(data.value);
  }

  show(value) {
    this.value = value;
    const { range, number } = this;
    range.value = this.data.stops ? nearest(this.data.stops, value) : value;
    const text = String(Number(value.toFixed(4)));
    if (number.value !== text) number.value = text;
    range.setAttribute("aria-valuetext", `${text} ${this.data.unit}`.trim());
    const share = (range.value - range.min) / (range.max - range.min || 1);
    range.style.setProperty("--share", share);
  }

  entered() {
    const at = this.range.valueAsNumber;
    return this.data.stops ? this.data.stops[at] : at;
  }

  moved() {
    this.show(this.entered());
    if (this.dragging) this.later();
  }

  changed() {
    const value = this.entered();
    this.show(value);
    if (this.repeating) this.later();
    else if (this.open || value !== this.ended) this.send(true); // else the end of a drag, which has been told
  }

  letGo() {
    this.dragging = this.repeating = false;
    if (this.open) this.send(true);
  }

  typed() {
    const [low, high] = this.data.limits;
    const value = this.number.valueAsNumber;
    if (Number.isNaN(value)) return this.show(this.value);
    this.show(Math.min(Math.max(value, low), high));
    this.send(true);
  }

  later() {
    this.open = true;
    this.wanted = this.value;
    this.next();
  }

  next() {
    clearTimeout(this.timer);
    if (this.wanted === null) return;
    const since = Date.now() - this.sent;
    const wait = (this.waiting ? PATIENCE_MS : LEAST_MS) - since;
    if (wait > 0) this.timer = setTimeout(() => this.next(), wait);
    else this.send(false);
  }

  send(last) {
    clearTimeout(this.timer);
    this.sent = Math.max(Date.now(), this.sent + 1);
    this.waiting = true;
    this.wanted = null;
    this.open = !last;
    this.ended = last ? this.value : null;
    this.transmit({ value: this.value, time: this.sent, last });
  }
}

function nearest(stops, value) {
  const away = stops.map((stop) => Math.abs(stop - value));
  return away.indexOf(Math.min(...away));
}
