// Colours between the stops of a palette, and which of the two themes is on.

export function colour(stops, position) {
  const place = Math.min(Math.max(position, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const part = place - i;
  return stops[i].map((from, k) => Math.round(from + (stops[i + 1][k] - from) * part));
}

// Relative luminance as WCAG defines it, 0 to 1.
function luminance(rgb) {
  const [r, g, b] = rgb.map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function isDark(element) {
  const probe = document.createElement("span");
  probe.style.color = "var(--st-background-color)";
  element.append(probe);
  const rgb = (getComputedStyle(probe).color.match(/[\d.]+/g) || ["255", "255", "255"]).map(Number);
  probe.remove();
  return luminance(rgb) < 0.2;
}
