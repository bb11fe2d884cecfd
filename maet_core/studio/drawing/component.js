// What every drawing is to Streamlit: one view for each place on the page, which draws what is new and sends what is picked.

const views = new WeakMap();

export function drawOn({ data, parentElement, setStateValue }, View) {
  const root = parentElement.querySelector(".drawing");
  if (!views.has(root)) views.set(root, new View(root));
  const view = views.get(root);
  view.send = sender(view, setStateValue);
  view.draw(data);
}

// The last picks with their times, not the last one only: the server joins messages that come while it is busy.
function sender(view, setStateValue) {
  view.picks ??= [];
  return (pick) => {
    const last = view.picks.at(-1)?.time ?? 0;
    view.picks = [...view.picks.slice(-49), { time: Math.max(Date.now(), last + 1), ...pick }];
    setStateValue("picks", view.picks);
  };
}
