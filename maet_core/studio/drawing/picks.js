// What has been picked in a drawing, on its way to the server (see `picks` in drawing/__init__.py).

// The last picks with their times, not the last one only: the server joins messages that come while it is busy.
export function sender(view, setStateValue) {
  view.picks ??= [];
  return (pick) => {
    const last = view.picks.at(-1)?.time ?? 0;
    view.picks = [...view.picks.slice(-49), { time: Math.max(Date.now(), last + 1), ...pick }];
    setStateValue("picks", view.picks);
  };
}
