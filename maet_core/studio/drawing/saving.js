// A picture that is written as SVG: its words, and how it becomes a file, as it is or as PNG.

export function text(x, y, content, fill, anchor, size = 11) {
  const safe = String(content).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  return `<text x="${x}" y="${y}" fill="${fill}" text-anchor="${anchor}" font-size="${size}">${safe}</text>`;
}

export function opening({ width, height }, ground, patterns = "") {
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">` +
    `<defs>${patterns}</defs><rect width="100%" height="100%" fill="${ground}"/>`
  );
}

// What the colours mean: the ends of the scale and the ramp between them.
export function scaleLine(scale, stops, left, foot, ink) {
  const ramp = left + 8 + 7 * scale.low_text.length;
  const parts = stops.map((stop, k) => `<stop offset="${k / (stops.length - 1)}" stop-color="rgb(${stop})"/>`);
  return [
    text(left, foot, scale.low_text, ink, "start"),
    `<linearGradient id="ramp">${parts.join("")}</linearGradient>`,
    `<rect x="${ramp}" y="${foot - 9}" width="130" height="9" rx="3" fill="url(#ramp)"/>`,
    text(ramp + 138, foot, `${scale.high_text} ${scale.title}`, ink, "start"),
  ].join("\n");
}

export async function raster({ text, width, height }) {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
