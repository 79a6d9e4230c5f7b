// The project's guidelines beside the item, asked for when they are first wanted: of the whole project, of the label in
// question, and of the label under the pointer or the focus.

const byId = (id) => document.getElementById(id);

export class Guidelines {
  // `load()` resolves to the reply with the guidelines.
  constructor({ load, announce }) {
    Object.assign(this, { load, announce });
    this.labels = null; // label id → its guideline, once loaded
    this.loading = null;
    this.machine = null;
    this.looked = null;
    byId("guide-close").addEventListener("click", () => this.close());
    byId("guide").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  get isOpen() {
    return !byId("guide").hidden;
  }

  show(task) {
    this.machine = task.machine?.label_id ?? null;
    this.looked = null;
    this.#showLabels();
  }

  look(label) {
    if (label === null || label.id === this.looked) return; // What was looked at last stays: it may be being read.
    this.looked = label.id;
    this.#showLabels();
  }

  toggle() {
    if (this.isOpen) return this.close();
    byId("guide").hidden = false;
    byId("guide-button").setAttribute("aria-expanded", "true");
    byId("guide-title").focus({ preventScroll: true });
    this.loading ??= this.#fill();
  }

  close() {
    if (!this.isOpen) return;
    byId("guide").hidden = true;
    byId("guide-button").setAttribute("aria-expanded", "false");
    byId("stage").focus({ preventScroll: true });
  }

  async #fill() {
    byId("guide-said").textContent = "Loading …";
    byId("guide-said").hidden = false;
    let reply;
    try {
      reply = await this.load();
    } catch {
      reply = { status: 0, sentence: "The server cannot be reached." };
    }
    if (reply.status !== 200) {
      byId("guide-said").textContent = `${reply.sentence} Close the guidelines and open them again to try once more.`;
      this.loading = null;
      return;
    }
    const { html, labels } = reply.data;
    this.labels = new Map(labels.map((label) => [label.label_id, label]));
    byId("guide-project").replaceChildren(...markup(html));
    const isEmpty = !html && labels.every((label) => !label.html && !label.description && !label.examples.length);
    byId("guide-said").textContent = isEmpty ? "None are written yet. Managers write them in the project's settings." : "";
    byId("guide-said").hidden = !isEmpty;
    byId("guide-all").replaceChildren(...labels.map((label) => this.#folded(label)));
    byId("guide-all-part").hidden = !labels.length || isEmpty;
    this.#showLabels();
  }

  #showLabels() {
    if (!this.labels) return;
    const ids = [this.looked, this.machine].filter((id, at, all) => id !== null && all.indexOf(id) === at);
    const parts = ids.map((id) => this.labels.get(id)).filter(Boolean).map((label) => {
      const part = document.createElement("section");
      part.className = "review-guide-label";
      const title = textIn("h3", label.name);
      title.dir = "auto";
      part.append(title, ...this.#body(label));
      return part;
    });
    byId("guide-labels").replaceChildren(...parts);
  }

  #folded(label) {
    const part = document.createElement("details");
    part.className = "disclosure";
    const summary = textIn("summary", label.name);
    summary.dir = "auto";
    part.append(summary);
    // Built when it is opened: 196 labels may have twelve images each.
    part.addEventListener("toggle", () => {
      if (part.open && part.childElementCount === 1) part.append(...this.#body(label));
    });
    return part;
  }

  #body(label) {
    const parts = [];
    if (label.description) parts.push(textIn("p", label.description, "soft"));
    const prose = document.createElement("div");
    prose.className = "prose";
    prose.dir = "auto";
    prose.append(...markup(label.html));
    if (label.html) parts.push(prose);
    if (label.examples.length) {
      const list = document.createElement("ul");
      list.className = "review-examples";
      list.append(...label.examples.map(exampleRow));
      parts.push(list);
    }
    if (!parts.length) parts.push(textIn("p", "Nothing is written about this label.", "small soft"));
    return parts;
  }
}

function exampleRow(example) {
  const row = document.createElement("li");
  if (example.image_url) {
    const image = new Image(example.image_width ?? undefined, example.image_height ?? undefined);
    image.loading = "lazy";
    image.alt = `Example ${example.external_id}`;
    image.src = example.image_url;
    row.append(image);
  }
  for (const words of [example.question, example.text]) {
    if (!words) continue;
    const part = textIn("p", words, "plain-text");
    part.dir = "auto";
    row.append(part);
  }
  if (example.note) row.append(textIn("p", example.note, "small soft"));
  return row;
}

// The server made this HTML safe to show; it is the only one that is put on the page as such.
function markup(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.childNodes;
}

function textIn(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
