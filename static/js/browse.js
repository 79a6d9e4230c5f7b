// Choosing items in the list: a click with Shift chooses all between, the first box chooses the page, J and K walk.

const form = document.querySelector("form[data-bulk]");
const boxes = [...document.querySelectorAll('input[name="item"]')];
const links = [...document.querySelectorAll("[data-rows] a[href]")];
let last = -1;

function update() {
  const chosen = boxes.filter((box) => box.checked).length;
  const everything = form.querySelector("[data-all-matching]").checked;
  const page = form.querySelector("[data-tick-all]");
  page.checked = chosen === boxes.length && chosen > 0;
  page.indeterminate = chosen > 0 && chosen < boxes.length;
  form.querySelector("[data-chosen]").textContent =
    everything || !chosen ? "Choose items" : `${chosen} chosen`;
  form.toggleAttribute("data-some", everything || chosen > 0);
}

function tick(box, shift) {
  const at = boxes.indexOf(box);
  if (shift && last >= 0) {
    for (const between of boxes.slice(Math.min(at, last), Math.max(at, last) + 1)) between.checked = box.checked;
  }
  last = at;
  update();
}

if (form) {
  for (const box of boxes) box.addEventListener("click", (event) => tick(box, event.shiftKey));
  // The whole cell is as good as the box in it.
  for (const cell of document.querySelectorAll(".browse-tick")) {
    cell.addEventListener("click", (event) => {
      if (event.target !== cell) return;
      const box = cell.querySelector("input");
      box.checked = !box.checked;
      tick(box, event.shiftKey);
    });
  }
  form.querySelector("[data-tick-all]").addEventListener("change", (event) => {
    for (const box of boxes) box.checked = event.target.checked;
    update();
  });
  form.querySelector("[data-all-matching]").addEventListener("change", update);
  addEventListener("pageshow", update);
  update();
}

document.addEventListener("keydown", (event) => {
  const step = { j: 1, k: -1 }[event.key];
  const field = event.target.closest("input:not([type=checkbox]), select, textarea, [contenteditable]");
  if (!step || field || event.ctrlKey || event.metaKey || event.altKey || !links.length) return;
  const at = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, at + step))].focus();
});
