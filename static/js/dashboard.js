// The dashboard asks every few seconds what has changed. Here: not while nobody looks, and what somebody opened,
// scrolled or focused stays so when a part is replaced.

const live = () => document.getElementById("dashboard-live");

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt === live()) event.preventDefault();
});

// Somebody who comes back sees at once what happened meanwhile.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && live()) window.htmx.trigger(live(), "back");
});

let focused = null;

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  for (const old of target.querySelectorAll("details[data-keep][open]")) {
    const fresh = fragment.querySelector(`details[data-keep="${old.dataset.keep}"]`);
    if (fresh) fresh.open = true;
  }
  const scrolled = [...target.querySelectorAll(".table-wrap")].map((box) => [box.scrollLeft, box.scrollTop]);
  const at = [...target.querySelectorAll("a, summary, [tabindex]")].indexOf(document.activeElement);
  focused = { id: target.id, at, scrolled };
});

document.addEventListener("htmx:oobAfterSwap", () => {
  if (!focused) return;
  const part = document.getElementById(focused.id);
  const boxes = part?.querySelectorAll(".table-wrap") ?? [];
  focused.scrolled.forEach(([left, top], number) => boxes[number]?.scrollTo(left, top));
  if (focused.at >= 0) {
    [...(part?.querySelectorAll("a, summary, [tabindex]") ?? [])][focused.at]?.focus({ preventScroll: true });
  }
  focused = null;
});
