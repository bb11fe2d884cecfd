// A grid of buttons: layers across, modules down, one colour a cell. Buttons (not a canvas) because each cell can
// then be focused, named to a screen reader and found by a test; a thousand of them still draw in a few milliseconds.

const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".heatmap");
  let view = instances.get(root);
  if (!view) {
    view = new Heatmap(root);
    instances.set(root, view);
  }
  // The last picks with their times, not the last one only: the server joins messages that come while it is busy.
  view.pick = (row, column) => {
    const last = view.picks.at(-1)?.time ?? 0;
    view.picks = [...view.picks.slice(-49), { time: Math.max(Date.now(), last + 1), row, column }];
    setStateValue("picks", view.picks);
  };
  view.draw(data);
}

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
    this.picks = [];
    this.frame.addEventListener("scroll", () => this.hide());
    this.grid.addEventListener("mouseleave", () => this.hide());
    this.grid.addEventListener("keydown", (event) => this.keydown(event));
  }

  draw(data) {
    this.data = data;
    this.dark = isDark(this.root);
    const shape = JSON.stringify([data.rows, data.columns, !!data.row_bars, !!data.column_bars]);
    if (shape !== this.shape) {
      this.build();
      this.shape = shape;
    }
    this.paint();
    this.drawLegend();
    if (this.shown) this.show(...this.shown);
  }

  build() {
    const { rows, columns, row_bars, column_bars } = this.data;
    this.grid.replaceChildren();
    this.cells = rows.map(() => []);
    const narrow = columns.length > 16 ? "14px" : "26px";
    this.grid.style.gridTemplateColumns =
      `max-content repeat(${columns.length}, minmax(${narrow}, 1fr))` + (row_bars ? " 56px" : "");
    this.grid.classList.toggle("many", columns.length > 16);
    this.columnBars = [];
    if (column_bars) {
      this.add("div", "corner bars-title", this.data.bars_title);
      for (const _ of columns) this.columnBars.push(this.bar("column-bar"));
      if (row_bars) this.add("div", "corner");
    }
    this.rowBars = [];
    rows.forEach((row, i) => {
      this.add("div", "row-name", row);
      columns.forEach((column, j) => {
        const cell = this.add("button", "cell");
        cell.type = "button";
        cell.dataset.cell = `${column}/${row}`;
        cell.tabIndex = -1;
        cell.addEventListener("click", () => this.choose(i, j));
        cell.addEventListener("mouseenter", () => this.show(i, j));
        cell.addEventListener("focus", () => this.focused(i, j));
        cell.addEventListener("blur", () => this.hide());
        this.cells[i].push(cell);
      });
      if (row_bars) this.rowBars.push(this.bar("row-bar"));
    });
    this.add("div", "corner axis", this.data.column_title);
    const every = Math.ceil(columns.length / 24);
    columns.forEach((column, j) => this.add("div", "column-name", j % every ? "" : column));
    if (row_bars) this.add("div", "corner");
  }

  add(tag, className, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    this.grid.append(element);
    return element;
  }

  bar(className) {
    const holder = this.add("div", className);
    const fill = document.createElement("i");
    holder.append(fill);
    return fill;
  }

  paint() {
    const { values, marks, selected, rows, columns, names } = this.data;
    const stops = this.dark ? this.data.scale.dark : this.data.scale.light;
    const { low, high } = this.data.scale;
    let first = null;
    rows.forEach((row, i) => {
      columns.forEach((column, j) => {
        const cell = this.cells[i][j];
        const value = values[i][j];
        const empty = value === null;
        cell.disabled = empty;
        cell.className = "cell " + (empty ? "empty" : marks[i][j]);
        const chosen = !!selected && selected[0] === row && selected[1] === column;
        cell.classList.toggle("selected", chosen);
        const pressed = marks[i][j] ? /\b(hand-)?in\b/.test(marks[i][j]) : chosen;
        cell.setAttribute("aria-pressed", pressed ? "true" : "false");
        if (empty) {
          cell.style.background = "";
          cell.textContent = "";
          cell.removeAttribute("aria-label");
          return;
        }
        if (!first || chosen) first = [i, j];
        const rgb = colour(stops, (value - low) / (high - low || 1));
        cell.style.background = `rgb(${rgb})`;
        cell.style.color = luminance(rgb) > 0.179 ? "#000" : "#fff";
        cell.textContent = columns.length <= 16 ? this.data.texts[i][j] : "";
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
    if (event.key === "Escape") return this.hide();
    if (!step) return;
    event.preventDefault();
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
    this.pick(this.data.rows[i], this.data.columns[j]);
  }

  show(i, j) {
    const lines = this.data.names[i]?.[j];
    if (!lines) return this.hide();
    this.shown = [i, j];
    this.tip.replaceChildren(
      ...lines.map((line, k) => {
        const element = document.createElement(k ? "span" : "b");
        element.textContent = line;
        return element;
      })
    );
    const cell = this.cells[i][j].getBoundingClientRect();
    const root = this.root.getBoundingClientRect();
    this.tip.hidden = false;
    const width = this.tip.offsetWidth;
    const left = Math.min(Math.max(cell.left + cell.width / 2 - width / 2 - root.left, 0), root.width - width);
    const above = cell.top - root.top - this.tip.offsetHeight - 6;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${above > -40 ? above : cell.bottom - root.top + 6}px`;
  }

  hide() {
    this.tip.hidden = true;
    this.shown = null;
  }

  drawLegend() {
    const { scale, keys } = this.data;
    const stops = this.dark ? scale.dark : scale.light;
    this.legend.replaceChildren();
    const ramp = document.createElement("span");
    ramp.className = "ramp";
    ramp.style.background = `linear-gradient(90deg, ${stops.map((s) => `rgb(${s})`).join(",")})`;
    this.legend.append(label(scale.low_text), ramp, label(scale.high_text), label(scale.title, "title"));
    for (const [mark, text] of keys || []) {
      const pair = label("", "pair");
      pair.append(label("", `swatch cell ${mark}`), label(text));
      this.legend.append(pair);
    }
  }
}

function label(text, className = "") {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function fillBars(bars, shares, side) {
  if (!shares) return;
  const most = Math.max(...shares.map((s) => s.value), 1e-12);
  bars.forEach((bar, i) => {
    bar.style[side] = `${Math.max((100 * shares[i].value) / most, shares[i].value > 0 ? 2 : 0)}%`;
    bar.parentElement.title = shares[i].text;
  });
}

function colour(stops, position) {
  const place = Math.min(Math.max(position, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const part = place - i;
  return stops[i].map((from, k) => Math.round(from + (stops[i + 1][k] - from) * part));
}

// Relative luminance as WCAG defines it, 0 to 1: above 0.179 the dark ink has the larger contrast.
function luminance(rgb) {
  const [r, g, b] = rgb.map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function isDark(element) {
  const probe = document.createElement("span");
  probe.style.color = "var(--st-background-color)";
  element.append(probe);
  const rgb = (getComputedStyle(probe).color.match(/[\d.]+/g) || ["255", "255", "255"]).map(Number);
  probe.remove();
  return luminance(rgb) < 0.2;
}
