// A rectangle of cells that is being marked: by a drag of mouse or pen (a finger scrolls instead), or by Shift and the arrow keys.

export class Marking {
  // `taken([top, left, bottom, right])` gets what a drag has marked; the corners are in the order in which they were reached.
  constructor(taken) {
    this.taken = taken;
    this.cells = [];
    this.area = null;
    this.from = null; // where the drag began
    this.dragged = false;
    document.addEventListener("pointerup", () => this.released());
  }

  pressed(event, i, j) {
    this.dragged = false;
    if (event.pointerType === "touch" || event.button !== 0) return;
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
    this.mark(null);
    this.taken(area);
  }

  // One step of the keyboard, from the cell that has the focus.
  extend(focus, [down, right]) {
    const [top, left, i, j] = this.area ?? [...focus, ...focus];
    const within = (place, count) => Math.min(Math.max(place, 0), count - 1);
    this.mark([top, left, within(i + down, this.cells.length), within(j + right, this.cells[0].length)]);
  }

  mark(area) {
    this.area = area;
    const [top, left, bottom, right] = area ?? [1, 1, 0, 0];
    const between = (place, a, b) => area && place >= Math.min(a, b) && place <= Math.max(a, b);
    this.cells.forEach((line, i) =>
      line.forEach((cell, j) => {
        cell.classList.toggle("marked", !!(between(i, top, bottom) && between(j, left, right)));
      })
    );
  }
}
