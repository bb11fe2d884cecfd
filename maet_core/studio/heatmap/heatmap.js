// A grid of buttons: layers across, modules down, one colour a cell. Buttons (not a canvas) because each cell can
// then be focused, named to a screen reader and found by a test; a thousand of them still draw in a few milliseconds.
// Where the page takes areas, a drag (or Shift with the arrow keys) marks a rectangle, and a name at the margin its line.

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
  view.send = (pick) => {
    const last = view.picks.at(-1)?.time ?? 0;
    view.picks = [...view.picks.slice(-49), { time: Math.max(Date.now(), last + 1), ...pick }];
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
    this.area = null; // [from row, from column, to row, to column] while it is being marked
    this.dragged = false;
    this.frame.addEventListener("scroll", () => this.hide());
    this.grid.addEventListener("mouseleave", () => this.hide());
    this.grid.addEventListener("keydown", (event) => this.keydown(event));
    document.addEventListener("pointerup", () => this.released());
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
    const lastRow = rows.length - 1, lastColumn = columns.length - 1;
    rows.forEach((row, i) => {
      this.margin("row-name", row, row, [i, 0, i, lastColumn]);
      columns.forEach((column, j) => {
        const cell = this.add("button", "cell");
        cell.type = "button";
        cell.dataset.cell = `${column}/${row}`;
        cell.tabIndex = -1;
        cell.addEventListener("click", () => this.choose(i, j));
        cell.addEventListener("pointerdown", (event) => this.pressed(event, i, j));
        cell.addEventListener("pointerenter", () => this.entered(i, j));
        cell.addEventListener("mouseenter", () => this.show(i, j));
        cell.addEventListener("focus", () => this.focused(i, j));
        cell.addEventListener("blur", () => this.hide());
        this.cells[i].push(cell);
      });
      if (row_bars) this.rowBars.push(this.bar("row-bar"));
    });
    this.add("div", "corner axis", this.data.column_title);
    const every = Math.ceil(columns.length / 24);
    columns.forEach((column, j) => {
      const name = /^\d+$/.test(column) ? `${this.data.column_title} ${column}` : column;
      this.margin("column-name", j % every ? "" : column, name, [0, j, lastRow, j]);
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

  // The name of a row or a column: a button for the whole line where the page takes areas.
  margin(className, text, name, area) {
    if (!this.data.areas) return this.add("div", className, text);
    const button = this.add("button", `${className} line`, text);
    button.type = "button";
    button.setAttribute("aria-label", `all of ${name}`);
    button.addEventListener("click", () => this.sendArea(area));
    button.addEventListener("pointerenter", () => this.mark(area));
    button.addEventListener("pointerleave", () => this.mark(null));
    return button;
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
    this.area = this.from ? this.area : null;
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
    if (event.key === "Escape") {
      this.mark(null);
      return this.hide();
    }
    if (!step || !event.target.classList.contains("cell")) return;
    event.preventDefault();
    let [i, j] = this.focus;
    if (event.shiftKey && this.data.areas) {
      const [top, left, bottom, right] = this.area ?? [i, j, i, j];
      const row = Math.min(Math.max(bottom + step[0], 0), this.cells.length - 1);
      const column = Math.min(Math.max(right + step[1], 0), this.cells[0].length - 1);
      return this.mark([top, left, row, column]);
    }
    this.mark(null);
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
    if (this.dragged) {
      this.dragged = false; // the click that ends a drag
    } else if (this.area) {
      this.sendArea(this.area); // Enter after Shift and the arrow keys
    } else {
      this.send({ row: this.data.rows[i], column: this.data.columns[j] });
    }
  }

  // A drag by mouse or pen; a finger scrolls instead.
  pressed(event, i, j) {
    this.dragged = false;
    if (!this.data.areas || event.pointerType === "touch" || event.button !== 0) return;
    event.target.releasePointerCapture?.(event.pointerId);
    this.from = [i, j];
    this.mark(null);
  }

  entered(i, j) {
    if (this.from) this.mark([...this.from, i, j]);
  }

  released() {
    const area = this.from && this.area;
    this.from = null;
    if (!area || (area[0] === area[2] && area[1] === area[3])) return area && this.mark(null);
    this.dragged = true;
    setTimeout(() => (this.dragged = false)); // a drag that ends on another cell brings no click
    this.sendArea(area);
  }

  sendArea([top, left, bottom, right]) {
    const { rows, columns } = this.data;
    const between = (names, a, b) => names.slice(Math.min(a, b), Math.max(a, b) + 1);
    this.send({ rows: between(rows, top, bottom), columns: between(columns, left, right) });
    this.mark(null);
  }

  mark(area) {
    this.area = area;
    const [top, left, bottom, right] = area ?? [1, 1, 0, 0];
    this.cells.forEach((line, i) =>
      line.forEach((cell, j) => {
        const inside =
          area && i >= Math.min(top, bottom) && i <= Math.max(top, bottom) && j >= Math.min(left, right) && j <= Math.max(left, right);
        cell.classList.toggle("marked", !!inside);
      })
    );
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
    this.drawSaves();
  }

  drawSaves() {
    const saves = label("", "saves");
    const offer = (kind, say, make) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", say);
      button.title = say;
      button.addEventListener("click", async () => download(await make(), `${this.data.name}.${kind.toLowerCase()}`));
      saves.append(button);
    };
    const svg = () => picture(this.data, this.dark, this.root);
    offer("SVG", "Save this picture as SVG", async () => new Blob([svg().text], { type: "image/svg+xml" }));
    offer("PNG", "Save this picture as PNG", () => raster(svg()));
    if (this.data.csv) {
      const text = this.data.csv; // with a byte-order mark, so that a spreadsheet reads every script
      offer("CSV", "Save the table behind it as CSV", async () => new Blob(["\ufeff", text], { type: "text/csv" }));
    }
    this.legend.append(saves);
  }
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// The same picture as a file of its own: what CSS draws on the page is drawn here once more as SVG.
function picture(data, dark, root) {
  const style = getComputedStyle(root);
  const ink = style.color, ground = style.getPropertyValue("--st-background-color").trim() || (dark ? "#12181c" : "#ffffff");
  const { rows, columns, values, texts, marks, scale } = data;
  const stops = dark ? scale.dark : scale.light;
  const many = columns.length > 16;
  const width = many ? 18 : 60, height = many ? 18 : 28;
  const left = 16 + 7.2 * Math.max(...rows.map((row) => row.length), data.column_title.length);
  const top = 34, bottom = top + rows.length * (height + 2);
  const total = { width: Math.max(left + columns.length * (width + 2) + 16, 420), height: bottom + 66 };
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${total.width}" height="${total.height}" viewBox="0 0 ${total.width} ${total.height}" font-family="sans-serif" font-size="11">`,
    `<defs><pattern id="out" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" fill="${ground}"/><rect width="2" height="7" fill="${ink}" opacity="0.16"/></pattern>`,
    `<linearGradient id="ramp">${stops.map((stop, k) => `<stop offset="${k / (stops.length - 1)}" stop-color="rgb(${stop})"/>`).join("")}</linearGradient></defs>`,
    `<rect width="100%" height="100%" fill="${ground}"/>`,
    text(left, 20, data.title || scale.title, ink, "start", 13),
  ];
  rows.forEach((row, i) => {
    const y = top + i * (height + 2);
    out.push(text(left - 8, y + height / 2 + 4, row, ink, "end"));
    columns.forEach((_, j) => {
      if (values[i][j] === null) return;
      const x = left + j * (width + 2);
      const rgb = colour(stops, (values[i][j] - scale.low) / (scale.high - scale.low || 1));
      out.push(`<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="3" fill="rgb(${rgb})"/>`);
      const mark = marks[i][j];
      const part = /\bpart\b/.test(mark), gone = /\b(hand-)?out\b/.test(mark);
      const covered = part ? width / 2 : width;
      if (gone || part) {
        out.push(`<rect x="${x + width - covered}" y="${y}" width="${covered}" height="${height - 5}" fill="url(#out)"/>`);
      }
      const sign = /hand-in/.test(mark) ? "+" : /hand-out/.test(mark) ? "−" : /hand-part/.test(mark) ? "±" : "";
      if (sign) out.push(text(x + width - 3, y + 10, sign, gone ? ink : "#101418", "end", 12));
      const over = gone ? ink : luminance(rgb) > 0.179 ? "#000" : "#fff";
      if (!many) out.push(text(x + width / 2, y + height / 2 + 4, texts[i][j], over, "middle"));
    });
  });
  const every = Math.ceil(columns.length / 24);
  columns.forEach((column, j) => {
    if (j % every === 0) out.push(text(left + j * (width + 2) + width / 2, bottom + 13, column, ink, "middle"));
  });
  out.push(text(left - 8, bottom + 13, data.column_title, ink, "end"));
  const foot = bottom + 40;
  out.push(text(left, foot, scale.low_text, ink, "start"));
  const ramp = left + 8 + 7 * scale.low_text.length;
  out.push(`<rect x="${ramp}" y="${foot - 9}" width="130" height="9" rx="3" fill="url(#ramp)"/>`);
  out.push(text(ramp + 138, foot, `${scale.high_text} ${scale.title}`, ink, "start"));
  return { text: out.join("\n") + "\n</svg>\n", ...total };
}

function text(x, y, content, fill, anchor, size = 11) {
  const safe = String(content).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  return `<text x="${x}" y="${y}" fill="${fill}" text-anchor="${anchor}" font-size="${size}">${safe}</text>`;
}

async function raster({ text, width, height }) {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
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
