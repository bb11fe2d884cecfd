// Tells the sliders of the page which entry's effect is on the screen by now.

export default function ({ data }) {
  requestAnimationFrame(() => window.dispatchEvent(new CustomEvent("maet-settled", { detail: data.entry })));
}
