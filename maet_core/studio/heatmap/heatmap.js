// A grid of buttons: layers across, modules down, one colour a cell. Buttons (not a canvas) because each cell can
// then be focused, named to a screen reader and found by a test; a thousand of them still draw in a few milliseconds.
// Where the page takes areas, a drag (or Shift with the arrow keys) marks a rectangle, and a name at the margin its line.

import { colour, isDark } from "../drawing/colours.js";
import { drawOn } from "../drawing/component.js";
import { fillLegend } from "../drawing/legend.js";
import { showTip } from "../drawing/tip.js";
import { Marking } from "./marking.js";
import { picture } from "./picture.js";

const MOST_WITH_TEXT = 16; // columns; the cells of more are too narrow for a number

export default (component) => drawOn(component, Heatmap);

class Heatmap {
  constructor(root) {
    this.root = root;
    this.frame = root.querySelector(".frame");
    this.grid = root.querySelector(".grid");
    this.legend = root.querySelector(".legend");
    this.tip = root.querySelector(".tip");
    this.shape = "";
    this.cells = [];
    this.focus = [0, 0];
    this.shown = null;
    this.marking = new Marking((area) => this.sendArea(area));
    this.frame.addEventListener("scroll", () => this.hide());
    this.grid.addEventListener("mouseleave", () => this.hide());
    this.grid.addEventListener("keydown", (event) => this.keydown(event));
  }

  draw(data) {
    this.data = data;
    this.dark = isDark(this.root);
    this.root.classList.toggle("areas", !!data.areas);
    const shape = JSON.stringify([data.rows, data.columns, !!data.row_bars, !!data.column_bars, data.areas]);
    if (shape !== this.shape) {
      this.build();
      this.shape = shape;
    }
    this.paint();
    fillLegend(this.legend, data, this.dark, () => picture(data, this.dark, this.root));
    if (this.shown) this.show(...this.shown);
  }

  build() {
    const { rows, columns, row_bars, column_bars } = this.data;
    this.grid.replaceChildren();
    this.cells = this.marking.cells = rows.map(() => []);
    const many = columns.length > MOST_WITH_TEXT;
    this.grid.style.gridTemplateColumns =
      `max-content repeat(${columns.length}, minmax(${many ? "14px" : "26px"}, 1fr))` + (row_bars ? " 56px" : "");
    this.grid.classList.toggle("many", many);
    this.columnBars = [];
    if (column_bars) {
      this.add("div", "corner bars-title", this.data.bars_title);
      for (const _ of columns) this.columnBars.push(this.bar("column-bar"));
      if (row_bars) this.add("div", "corner");
    }
    this.rowBars = [];
    const lastRow = rows.length - 1, lastColumn = columns.length - 1;
    rows.forEach((row, i) => {
      this.margin("row-name", row, row, [i, 0, i, lastColumn]);
      columns.forEach((column, j) => this.cells[i].push(this.cell(i, j, `${column}/${row}`)));
      if (row_bars) this.rowBars.push(this.bar("row-bar"));
    });
    this.add("div", "corner axis", this.data.column_title);
    const every = Math.ceil(columns.length / 24);
    columns.forEach((column, j) => {
      const name = /^\d+$/.test(column) ? `${this.data.column_title} ${column}` : column;
      const kind = name === column ? "column-name word" : "column-name";
      this.margin(kind, j % every ? "" : column, name, [0, j, lastRow, j]).title = name;
    });
    if (row_bars) this.add("div", "corner");
  }

  add(tag, className, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    this.grid.append(element);
    return element;
  }

  cell(i, j, name) {
    const cell = this.add("button", "cell");
    cell.type = "button";
    cell.dataset.cell = name;
    cell.tabIndex = -1;
    cell.addEventListener("click", () => this.choose(i, j));
    if (this.data.areas) {
      cell.addEventListener("pointerdown", (event) => this.marking.pressed(event, i, j));
      cell.addEventListener("pointerenter", () => this.marking.entered(i, j));
    }
    cell.addEventListener("mouseenter", () => this.show(i, j));
    cell.addEventListener("focus", () => this.focused(i, j));
    cell.addEventListener("blur", () => this.hide());
    return cell;
  }

  // The name of a row or a column: a button for the whole line where the page takes areas.
  margin(className, text, name, area) {
    if (!this.data.areas) return this.add("div", className, text);
    const button = this.add("button", `${className} line`, text);
    button.type = "button";
    button.setAttribute("aria-label", `all of ${name}`);
    button.addEventListener("click", () => this.sendArea(area));
    button.addEventListener("pointerenter", () => this.marking.mark(area));
    button.addEventListener("pointerleave", () => this.marking.mark(null));
    return button;
  }

  bar(className) {
    const holder = this.add("div", className);
    const fill = document.createElement("i");
    holder.append(fill);
    return fill;
  }

  paint() {
    const { values, marks, selected, rows, columns, names, texts } = this.data;
    const { low, high, inks } = this.data.scale;
    const stops = this.dark ? this.data.scale.dark : this.data.scale.light;
    const ink = this.dark ? inks.dark : inks.light;
    let first = null;
    this.marking.area = this.marking.from ? this.marking.area : null;
    rows.forEach((row, i) => {
      columns.forEach((column, j) => {
        const cell = this.cells[i][j];
        const value = values[i][j];
        const empty = value === null;
        cell.disabled = empty;
        cell.className = "cell " + (empty ? "empty" : marks[i][j]); // forgets a marked area as well
        const chosen = !!selected && selected[0] === row && selected[1] === column;
        cell.classList.toggle("selected", chosen);
        const pressed = marks[i][j] ? /\b(hand-)?in\b/.test(marks[i][j]) : chosen;
        cell.setAttribute("aria-pressed", pressed ? "true" : "false");
        if (empty) {
          cell.style.background = "";
          cell.textContent = "";
          cell.setAttribute("aria-label", `${row}, ${column}: no value`);
          return;
        }
        if (!first || chosen) first = [i, j];
        cell.style.background = `rgb(${colour(stops, (value - low) / (high - low || 1))})`;
        cell.style.color = ink;
        fillCell(cell, columns.length <= MOST_WITH_TEXT ? texts[i][j] : "");
        cell.setAttribute("aria-label", names[i][j].join(", "));
      });
    });
    if (first) this.rove(...first);
    fillBars(this.columnBars, this.data.column_bars, "height");
    fillBars(this.rowBars, this.data.row_bars, "width");
  }

  // One cell at a time is in the tab order; the arrow keys move it.
  rove(i, j) {
    this.cells[this.focus[0]]?.[this.focus[1]]?.setAttribute("tabindex", "-1");
    this.focus = [i, j];
    this.cells[i][j].tabIndex = 0;
  }

  keydown(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") {
      this.marking.mark(null);
      return this.hide();
    }
    if (!step || !event.target.classList.contains("cell")) return;
    event.preventDefault();
    if (event.shiftKey && this.data.areas) return this.marking.extend(this.focus, step);
    this.marking.mark(null);
    let [i, j] = this.focus;
    for (;;) {
      i += step[0];
      j += step[1];
      const cell = this.cells[i]?.[j];
      if (!cell) return;
      if (!cell.disabled) return cell.focus();
    }
  }

  focused(i, j) {
    this.rove(i, j);
    if (this.cells[i][j].matches(":focus-visible")) this.show(i, j);
  }

  choose(i, j) {
    if (this.marking.dragged) {
      this.marking.dragged = false; // the click that ends a drag
    } else if (this.marking.area) {
      this.sendArea(this.marking.area); // Enter after Shift and the arrow keys
    } else {
      this.send({ row: this.data.rows[i], column: this.data.columns[j] });
    }
  }

  sendArea([top, left, bottom, right]) {
    const { rows, columns } = this.data;
    const between = (names, a, b) => names.slice(Math.min(a, b), Math.max(a, b) + 1);
    this.send({ rows: between(rows, top, bottom), columns: between(columns, left, right) });
    this.marking.mark(null);
  }

  show(i, j) {
    const lines = this.data.names[i]?.[j];
    if (!lines) return this.hide();
    this.shown = [i, j];
    showTip(this.tip, this.root, this.cells[i][j], lines);
  }

  hide() {
    this.tip.hidden = true;
    this.shown = null;
  }
}

// What stands in brackets goes where there is no room for it.
function fillCell(cell, text) {
  const [value, ...aside] = text.split(" (");
  cell.textContent = value;
  if (aside.length) cell.append(Object.assign(document.createElement("small"), { textContent: ` (${aside.join(" (")}` }));
}

function fillBars(bars, shares, side) {
  if (!shares) return;
  const most = Math.max(...shares.map((s) => s.value), 1e-12);
  bars.forEach((bar, i) => {
    bar.style[side] = `${Math.max((100 * shares[i].value) / most, shares[i].value > 0 ? 2 : 0)}%`;
    bar.parentElement.title = shares[i].text;
  });
}
