// A field that takes several models, with commas between them: its list completes the last one, not the whole text.

document.addEventListener("input", (event) => {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || field.name !== "models" || !field.list) return;
  const typed = field.value.slice(0, field.value.lastIndexOf(",") + 1);
  const before = typed ? `${typed.trimEnd()} ` : "";
  for (const option of field.list.options) {
    option.dataset.model ??= option.value;
    option.value = before + option.dataset.model;
  }
});
