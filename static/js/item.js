// An item's image, larger and smaller in its frame; without this script it is shown as it fits.

const LARGEST = 8; // times what fits

for (const view of document.querySelectorAll("[data-zoom]")) {
  const frame = view.querySelector(".item-frame");
  const image = frame.querySelector("img");
  const buttons = view.querySelector("[data-zoom-buttons]");
  let scale = 1;
  let fitting = 0;

  const zoom = (next) => {
    if (!fitting) fitting = image.clientWidth;
    const middle = [
      (frame.scrollLeft + frame.clientWidth / 2) / frame.scrollWidth,
      (frame.scrollTop + frame.clientHeight / 2) / frame.scrollHeight,
    ];
    scale = Math.min(LARGEST, Math.max(1, next));
    view.toggleAttribute("data-zoomed", scale > 1);
    image.style.width = scale > 1 ? `${fitting * scale}px` : "";
    image.style.height = scale > 1 ? "auto" : "";
    if (scale === 1) fitting = 0; // The window may have changed by the next time.
    frame.scrollLeft = middle[0] * frame.scrollWidth - frame.clientWidth / 2;
    frame.scrollTop = middle[1] * frame.scrollHeight - frame.clientHeight / 2;
  };

  buttons.hidden = false;
  buttons.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom-by]");
    if (!button) return;
    const by = Number(button.dataset.zoomBy);
    zoom(by === 0 ? 1 : scale * by);
  });
  image.addEventListener("dblclick", () => zoom(scale > 1 ? 1 : 2));
}
