// The line below a drawing: the scale, what the marks mean, and the buttons that save picture and table.

import { download, raster } from "./saving.js";

// `picture()` gives the drawing as { text: SVG, width, height }.
export function fillLegend(place, data, dark, picture) {
  const { scale, keys } = data;
  const stops = dark ? scale.dark : scale.light;
  const ramp = label("", "ramp");
  ramp.style.background = `linear-gradient(90deg, ${stops.map((s) => `rgb(${s})`).join(",")})`;
  const pairs = (keys || []).map(([mark, text]) => {
    const pair = label("", "pair");
    pair.append(label("", `swatch cell ${mark}`), label(text));
    return pair;
  });
  const ends = [label(scale.low_text), ramp, label(scale.high_text), label(scale.title, "title")];
  place.replaceChildren(...ends, ...pairs, saves(data, picture));
}

function saves(data, picture) {
  const place = label("", "saves");
  const offer = (kind, say, make) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", say);
    button.title = say;
    button.addEventListener("click", async () => download(await make(), `${data.name}.${kind.toLowerCase()}`));
    place.append(button);
  };
  offer("SVG", "Save this picture as SVG", async () => new Blob([picture().text], { type: "image/svg+xml" }));
  offer("PNG", "Save this picture as PNG", () => raster(picture()));
  if (data.csv) {
    // with a byte-order mark, so that a spreadsheet reads every script
    offer("CSV", "Save the table behind it as CSV", async () => new Blob(["\ufeff", data.csv], { type: "text/csv" }));
  }
  return place;
}

function label(text, className = "") {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}
