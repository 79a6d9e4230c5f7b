// Shows in the preview what each column is used for.

const form = document.querySelector("form[data-mapping]");
const names = { id: "Id", text: "Text", image: "Image", question: "Question", gold: "Gold", start: "Place", no_answer: "No answer" };

function mark() {
  const roles = new Map();
  for (const select of form.querySelectorAll("select[data-role]")) {
    if (!select.value) continue;
    roles.set(select.value, [...(roles.get(select.value) ?? []), names[select.dataset.role] ?? select.dataset.roleName]);
  }
  for (const cell of document.querySelectorAll("[data-column]")) {
    const used = roles.get(cell.dataset.column);
    cell.toggleAttribute("data-used", used !== undefined);
    const badge = cell.querySelector("[data-column-role]");
    if (!badge) continue;
    badge.hidden = used === undefined;
    badge.textContent = used?.join(", ") ?? "";
  }
}

if (form) {
  form.addEventListener("change", mark);
  mark();
}
