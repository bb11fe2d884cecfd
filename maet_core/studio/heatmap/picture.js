// The heatmap as a file of its own: what CSS draws on the page is drawn here once more as SVG, and from it as PNG.

import { colour } from "../drawing/colours.js";
import { opening, scaleLine, text } from "../drawing/saving.js";

export function picture(data, dark, root) {
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
    opening(total, ground, hatching(ground, ink)),
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
      const over = gone ? ink : dark ? scale.inks.dark : scale.inks.light;
      if (!many) out.push(text(x + width / 2, y + height / 2 + 4, texts[i][j], over, "middle"));
    });
  });
  const every = Math.ceil(columns.length / 24);
  columns.forEach((column, j) => {
    if (j % every === 0) out.push(text(left + j * (width + 2) + width / 2, bottom + 13, column, ink, "middle"));
  });
  out.push(text(left - 8, bottom + 13, data.column_title, ink, "end"));
  out.push(scaleLine(scale, stops, left, bottom + 40, ink));
  return { text: out.join("\n") + "\n</svg>\n", ...total };
}

// Over what is left out.
function hatching(ground, ink) {
  return (
    '<pattern id="out" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">' +
    `<rect width="7" height="7" fill="${ground}"/><rect width="2" height="7" fill="${ink}" opacity="0.16"/></pattern>`
  );
}
