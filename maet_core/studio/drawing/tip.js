// What a cell says when it is pointed at or has the focus: its name in bold, then a line each.

export function showTip(tip, root, cell, lines) {
  tip.replaceChildren(
    ...lines.map((line, k) => {
      const element = document.createElement(k ? "span" : "b");
      element.textContent = line;
      return element;
    })
  );
  tip.hidden = false;
  const [at, around] = [cell.getBoundingClientRect(), root.getBoundingClientRect()];
  const width = tip.offsetWidth;
  const left = Math.min(Math.max(at.left + at.width / 2 - width / 2 - around.left, 0), around.width - width);
  const above = at.top - around.top - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > -40 ? above : at.bottom - around.top + 6}px`;
}
