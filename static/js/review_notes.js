// A note to an item: what somebody wants to say beside the answer. It goes the answers' way, so that none is lost
// without a network, and a draft is kept until it is sent.

const byId = (id) => document.getElementById(id);

export class Notes {
  // `outbox` takes {task, body, at}; `load(itemId)` resolves to the reply with the item's comments; `storage` begins
  // the names of the drafts that are kept in the browser.
  constructor({ outbox, load, announce, hint, storage }) {
    Object.assign(this, { outbox, load, announce, hint, storage });
    this.drafts = this.#stored(); // item id → {name, text}
    this.items = []; // {id, name} of the item on the page and of the one before
    this.target = null;
    this.isEditing = false;
    byId("note-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    byId("note-text").addEventListener("input", () => this.#keep());
    byId("note-item").addEventListener("change", (event) => this.#aim(Number(event.target.value)));
    byId("note-leave").addEventListener("click", () => this.leave());
    byId("note-panel").addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        this.leave();
      } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (!event.repeat) this.save();
      }
    });
  }

  get isOpen() {
    return !byId("note-panel").hidden;
  }

  get hasDrafts() {
    return this.drafts.size > 0;
  }

  show(task) {
    const item = { id: task.item.id, name: task.item.external_id };
    this.items = [item, ...this.items.filter((each) => each.id !== item.id)].slice(0, 2);
    this.comments = task.comments ?? 0;
    this.#showCount();
    if (this.isOpen) this.#showTargets();
  }

  // With a passage, it is quoted at the end of what is written.
  open(passage = "") {
    if (!this.items.length && !this.hasDrafts) return;
    this.target = this.isOpen && !passage ? this.target : this.items[0]?.id ?? [...this.drafts.keys()][0];
    byId("note-panel").hidden = false;
    byId("note-button").setAttribute("aria-expanded", "true");
    this.#aim(this.target);
    if (passage) this.#quote(passage);
    const text = byId("note-text");
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
    if (this.target === this.items[0]?.id && this.comments) void this.#showOthers(this.target);
  }

  leave() {
    if (!this.isOpen) return;
    const isKept = this.drafts.has(this.target);
    byId("note-panel").hidden = true;
    byId("note-button").setAttribute("aria-expanded", "false");
    byId("stage").focus({ preventScroll: true });
    this.announce(isKept ? "Left. The note is kept, and not sent." : "Left.");
  }

  save() {
    const text = byId("note-text").value.trim();
    if (!text) return this.hint("Write the note first, or leave with Esc.");
    const name = this.#nameOf(this.target);
    this.outbox.add({
      task: { id: this.target, item: { id: this.target, external_id: name } },
      body: { text, key: crypto.randomUUID() },
      at: Date.now(),
    });
    if (this.target === this.items[0]?.id) this.comments += 1;
    this.#forget(this.target);
    byId("note-text").value = "";
    this.leave();
    this.hint(`Note to ${name} written.`);
  }

  // A note that the server refused is a draft again.
  giveBack(entry) {
    const { id, external_id: name } = entry.task.item;
    const newer = this.drafts.get(id)?.text;
    this.drafts.set(id, { name, text: newer ? `${entry.body.text}\n\n${newer}` : entry.body.text });
    this.#store(id);
    if (this.items[0]?.id === id) this.comments -= 1;
    this.#showCount();
    if (this.isOpen) this.#aim(this.target);
  }

  // --- The panel -----------------------------------------------------------------------------------------------------

  // The item on the page, the one before, and others with a draft.
  #showTargets() {
    const known = new Map(this.items.map((item) => [item.id, item.name]));
    for (const [id, { name }] of this.drafts) if (!known.has(id)) known.set(id, name);
    if (!known.has(this.target)) this.target = this.items[0].id;
    const words = (id) => (id === this.items[0]?.id ? "this item" : id === this.items[1]?.id ? "the item before" : "a draft");
    byId("note-item").replaceChildren(...[...known].map(([id, name]) => {
      const option = new Option(`${name} (${words(id)})`, String(id), false, id === this.target);
      return option;
    }));
  }

  #aim(itemId) {
    this.target = itemId;
    this.#showTargets();
    byId("note-text").value = this.drafts.get(this.target)?.text ?? "";
    byId("note-others").hidden = true;
  }

  #quote(passage) {
    const field = byId("note-text");
    const before = field.value.trimEnd();
    field.value = `${before ? `${before}\n\n` : ""}${passage.split("\n").map((line) => `> ${line}`).join("\n")}\n\n`;
    this.#keep();
  }

  #keep() {
    const text = byId("note-text").value;
    if (text.trim()) this.drafts.set(this.target, { name: this.#nameOf(this.target), text });
    else this.drafts.delete(this.target);
    this.#store(this.target);
    this.#showCount();
  }

  #forget(itemId) {
    this.drafts.delete(itemId);
    this.#store(itemId);
    this.#showCount();
  }

  #nameOf(itemId) {
    return this.items.find((item) => item.id === itemId)?.name ?? this.drafts.get(itemId)?.name ?? String(itemId);
  }

  #showCount() {
    const said = this.hasDrafts ? `${this.drafts.size} not sent` : this.comments ? String(this.comments) : "";
    byId("note-count").textContent = said;
    byId("note-count").hidden = !said;
    byId("note-count").toggleAttribute("data-draft", this.hasDrafts);
  }

  // What others wrote of the item, for those who may read it.
  async #showOthers(itemId) {
    let reply;
    try {
      reply = await this.load(itemId);
    } catch {
      return;
    }
    const comments = reply.status === 200 ? reply.data.results ?? [] : [];
    if (itemId !== this.target || !comments.length) return;
    byId("note-others").replaceChildren(...comments.map((comment) => {
      const row = document.createElement("li");
      const who = document.createElement("strong");
      who.textContent = comment.author?.username ?? comment.author ?? "";
      const text = document.createElement("p");
      text.textContent = comment.text;
      text.dir = "auto";
      row.append(who, text);
      return row;
    }));
    byId("note-others").hidden = false;
  }

  // --- Drafts --------------------------------------------------------------------------------------------------------

  #store(itemId) {
    const draft = this.drafts.get(itemId);
    try {
      if (draft) localStorage.setItem(this.storage + itemId, JSON.stringify(draft));
      else localStorage.removeItem(this.storage + itemId);
    } catch {
      // Storage is blocked: drafts are kept while the page is open.
    }
  }

  #stored() {
    const found = new Map();
    try {
      for (let i = 0; i < localStorage.length; i++) {
        const name = localStorage.key(i);
        if (name.startsWith(this.storage)) found.set(Number(name.slice(this.storage.length)), JSON.parse(localStorage.getItem(name)));
      }
    } catch {
      return new Map();
    }
    return found;
  }
}
