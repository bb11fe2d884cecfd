// The bars themselves, for the page and for a file; and the file.

import { opening, scaleLine, text } from "../drawing/saving.js";

const MOST_WITH_GAPS = 200;

// One rectangle a bar, `width` wide each and `height` for the highest; of a few bars a part of the width stays free.
export function drawn(values, fills, width, height, left = 0, top = 0) {
  const gap = values.length <= MOST_WITH_GAPS ? 0.15 : 0;
  const most = Math.max(...values) || 1;
  const short = (number) => Number(number.toFixed(3));
  return values
    .map((value, i) => {
      const tall = value > 0 ? Math.max((height * value) / most, height / 200) : 0; // the least one is seen as well
      return `<rect x="${short(left + (i + gap / 2) * width)}" y="${short(top + height - tall)}" width="${short((1 - gap) * width)}" height="${short(tall)}" fill="${fills[i]}"/>`;
    })
    .join("");
}

// [share of the width, text] of some five numbers of the many.
export function ticks(numbers) {
  const count = Math.min(numbers.length, 6);
  return Array.from({ length: count }, (_, k) => {
    const i = Math.round((k * (numbers.length - 1)) / Math.max(count - 1, 1));
    return [(i + 0.5) / numbers.length, numbers[i].toLocaleString("en")];
  });
}

export function picture({ data, values, fills, dark, root, most }) {
  const style = getComputedStyle(root);
  const ink = style.color, ground = style.getPropertyValue("--st-background-color").trim();
  const stops = dark ? data.scale.dark : data.scale.light;
  const [left, top, width, height] = [16, 52, 720, 160];
  const total = { width: left + width + 16, height: top + height + 76 };
  const out = [
    opening(total, ground),
    text(left, 20, data.label, ink, "start", 13),
    text(left, top - 8, most.textContent, ink, "start"),
    drawn(values, fills, width / values.length, height, left, top),
    `<rect x="${left}" y="${top + height}" width="${width}" height="1" fill="${ink}" opacity="0.3"/>`,
    ...ticks(data.ticks).map(([place, number]) => text(left + place * width, top + height + 15, number, ink, "middle")),
    text(left + width / 2, top + height + 32, data.titles[0], ink, "middle"),
    scaleLine(data.scale, stops, left, total.height - 20, ink),
  ];
  return { text: out.join("\n") + "\n</svg>\n", ...total };
}
