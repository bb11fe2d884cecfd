// Bars as one SVG, stretched to the width that there is; what is written around them is HTML, which is not stretched.

import { colour, isDark } from "../drawing/colours.js";
import { drawOn } from "../drawing/component.js";
import { fillLegend } from "../drawing/legend.js";
import { showTip } from "../drawing/tip.js";
import { drawn, picture, ticks } from "./picture.js";

const PAGE = 10; // bars that Page Up and Page Down go

export default (component) => drawOn(component, Bars);

class Bars {
  constructor(root) {
    this.root = root;
    for (const name of ["most", "bars", "ticks", "legend", "tip"]) this[name] = root.querySelector(`.${name}`);
    this.at = 0;
    const { bars } = this;
    bars.addEventListener("pointermove", (event) => this.show(this.below(event)));
    bars.addEventListener("pointerleave", () => this.hide());
    bars.addEventListener("click", (event) => this.choose(this.below(event)));
    bars.addEventListener("keydown", (event) => this.keydown(event));
    bars.addEventListener("focus", () => bars.matches(":focus-visible") && this.show(this.at));
    bars.addEventListener("blur", () => this.hide());
  }

  draw(data) {
    const another = data.name !== this.data?.name;
    this.data = data;
    this.dark = isDark(this.root);
    const { heights, scale, titles } = data;
    const stops = this.dark ? scale.dark : scale.light;
    this.values = heights.map(Number);
    this.fills = data.shades.map((shade) => `rgb(${colour(stops, (shade - scale.low) / (scale.high - scale.low || 1))})`);
    this.bars.innerHTML =
      `<svg viewBox="0 0 ${heights.length} 100" preserveAspectRatio="none" aria-hidden="true">` +
      drawn(this.values, this.fills, 1, 100) +
      '<rect class="chosen" width="1" height="100"/><rect class="pointed" width="1" height="100"/></svg>';
    this.most.textContent = `${titles[1]} up to ${heights[this.values.indexOf(Math.max(...this.values))]}`;
    this.ticks.replaceChildren(
      ...ticks(data.ticks).map(([place, text]) => {
        const tick = document.createElement("span");
        tick.textContent = text;
        tick.style.left = `${100 * place}%`;
        return tick;
      }),
      Object.assign(document.createElement("b"), { textContent: titles[0] })
    );
    fillLegend(this.legend, data, this.dark, () => picture(this));
    this.bars.setAttribute("aria-label", data.label);
    this.bars.setAttribute("aria-valuemax", heights.length - 1);
    this.place(".chosen", data.selected);
    if (data.selected !== null) this.at = data.selected;
    else if (another) this.at = 0;
    this.hide();
    this.told();
  }

  told() {
    this.at = Math.min(this.at, this.values.length - 1);
    this.bars.setAttribute("aria-valuenow", this.at);
    this.bars.setAttribute("aria-valuetext", this.lines(this.at).join(", "));
  }

  lines(i) {
    const { names, heights, shades, scale, titles } = this.data;
    return [names[i], `${titles[1]} ${heights[i]}`, `${Math.round(shades[i])} ${scale.unit} ${scale.title}`];
  }

  place(mark, i) {
    const rect = this.bars.querySelector(mark);
    rect.style.display = i === null ? "none" : "";
    rect.setAttribute("x", i ?? 0);
  }

  below(event) {
    const { left, width } = this.bars.getBoundingClientRect();
    const i = Math.floor(((event.clientX - left) / width) * this.values.length);
    return Math.min(Math.max(i, 0), this.values.length - 1);
  }

  show(i) {
    this.place(".pointed", i);
    showTip(this.tip, this.root, this.bars.querySelector(".pointed"), this.lines(i));
  }

  hide() {
    this.tip.hidden = true;
    this.place(".pointed", null);
  }

  keydown(event) {
    const last = this.values.length - 1;
    const to = {
      ArrowLeft: this.at - 1,
      ArrowDown: this.at - 1,
      ArrowRight: this.at + 1,
      ArrowUp: this.at + 1,
      PageDown: this.at - PAGE,
      PageUp: this.at + PAGE,
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === "Escape") return this.hide();
    if (event.key === "Enter" || event.key === " ") this.choose(this.at);
    else if (to === undefined) return;
    else {
      this.at = Math.min(Math.max(to, 0), last);
      this.told();
      this.show(this.at);
    }
    event.preventDefault();
  }

  choose(i) {
    this.at = i;
    this.told();
    this.send({ position: i, of: this.data.name });
  }
}
