// Small behaviours that pages ask for with attributes; every page also works without them.
//
//   data-theme-choice="light|dark|system"   a button that sets the theme
//   data-open-dialog="id"                   opens the <dialog id>; inside it, data-close-dialog closes it
//   data-confirm="Sentence?"                asks before the form is sent or the link is followed
//   data-copy="id"                          copies the text of the element
//   data-submit-on-change                   sends the form when one of its fields changes
//   data-show-when="field=value value"      on a block: visible while the form's field has one of the values
//   data-once                               a form that is sent once: its buttons are off while it is under way

function applyTheme(choice) {
  const root = document.documentElement;
  if (choice === "system") delete root.dataset.theme;
  else root.dataset.theme = choice;
  try {
    if (choice === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", choice);
  } catch {
    // Storage is blocked: the choice lasts for this page.
  }
  markTheme();
}

function markTheme() {
  const current = document.documentElement.dataset.theme ?? "system";
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === current));
  }
}

function fieldValue(form, name) {
  const field = form.elements.namedItem(name);
  if (field === null) return "";
  return field.type === "checkbox" ? (field.checked ? "on" : "") : field.value;
}

function showWhen(root) {
  for (const block of root.querySelectorAll("[data-show-when]")) {
    const form = block.closest("form");
    if (!form) continue;
    const [name, values] = block.dataset.showWhen.split("=");
    block.hidden = !values.split(" ").includes(fieldValue(form, name));
  }
}

// A form that came back with errors: the focus goes to what is to be mended first, which names its error as its
// description, or to the sentence that speaks of no one field.
function faceErrors() {
  const said = document.querySelectorAll("[data-form-errors], .errorlist, [data-upload-problem]:not([hidden])");
  for (const error of said) {
    const field = fieldToMend(error);
    for (let block = error.closest("details"); block; block = block.parentElement.closest("details")) block.open = true;
    if (field && error.id && !field.getAttribute("aria-describedby")?.split(" ").includes(error.id)) {
      field.setAttribute("aria-describedby", [field.getAttribute("aria-describedby"), error.id].filter(Boolean).join(" "));
    }
    const goal = field ?? error;
    goal.focus();
    if (goal === document.activeElement) return;
  }
}

function fieldToMend(error) {
  if (error.dataset.toMend) return document.getElementById(error.dataset.toMend);
  if ("formErrors" in error.dataset) return null;
  if ("uploadProblem" in error.dataset) return error.closest("form").querySelector("input[type=file]");
  const controls = "input:not([type=hidden]), select, textarea";
  const described = error.id ? document.querySelector(`[aria-describedby~="${CSS.escape(error.id)}"]`) : null;
  return described?.matches(controls) ? described : (described ?? error.closest(".field"))?.querySelector(controls) ?? null;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = label; }, 1600);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  const theme = target.closest("[data-theme-choice]");
  if (theme) return applyTheme(theme.dataset.themeChoice);
  const opener = target.closest("[data-open-dialog]");
  if (opener) {
    event.preventDefault();
    return document.getElementById(opener.dataset.openDialog)?.showModal();
  }
  if (target.closest("[data-close-dialog]")) return target.closest("dialog")?.close();
  const copier = target.closest("[data-copy]");
  if (copier) return void copy(copier);
  const link = target.closest("a[data-confirm]");
  if (link && !confirm(link.dataset.confirm)) return event.preventDefault();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (question && !confirm(question)) return event.preventDefault();
  if ("once" in form.dataset) {
    // After the browser has read the form: a button that is off would not be sent.
    setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = true; }));
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form) return;
  showWhen(form);
  if (event.target.closest("[data-submit-on-change]")) form.requestSubmit();
});

// A page that comes back from the browser's history has its buttons on again.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  document.querySelectorAll("form[data-once] button").forEach((button) => { button.disabled = false; });
});

// A session that ended answers with the sign-in page: go there instead of showing it inside this one.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.responseURL && new URL(xhr.responseURL).pathname.startsWith("/accounts/sign-in")) {
    event.detail.shouldSwap = false;
    location.reload();
  }
});
document.addEventListener("htmx:afterSwap", (event) => showWhen(event.detail.target.parentElement ?? document));

// The page's own tab is in view where tabs scroll sideways.
for (const tab of document.querySelectorAll(".tabs [aria-current], .subtabs [aria-current]")) {
  tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.clientWidth / 2;
}
markTheme();
showWhen(document);
faceErrors();
