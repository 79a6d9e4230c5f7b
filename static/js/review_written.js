// A written answer on the review screen: its doubtful facts marked in place, and a field to change it in. Whatever the
// server says is put on the page as text, never as markup.

const STRONG = 0.5;
const LIGHT = 0.25;

const byId = (id) => document.getElementById(id);

export class WrittenAnswer {
  // `save(text)` is called with a changed answer; `onMode()` when editing begins or ends; `announce(sentence)` is read aloud.
  constructor({ save, onMode, announce, notify }) {
    this.save = save;
    this.onMode = onMode;
    this.announce = announce;
    this.notify = notify;
    this.task = null;
    this.isEditing = false;
    this.drafts = new Map(); // task id → a text that was begun and not saved: leaving the field loses nothing
    this.marks = [];
    this.current = -1;
    const editor = byId("written-editor");
    editor.addEventListener("input", () => this.#keep());
    editor.addEventListener("keydown", (event) => this.#onKey(event));
    byId("edit-button").addEventListener("click", () => this.edit());
    byId("save-button").addEventListener("click", () => this.saveEdit());
    byId("leave-button").addEventListener("click", () => this.leave());
    byId("fact-next").addEventListener("click", () => this.jump(1, { focuses: false }));
    byId("fact-previous").addEventListener("click", () => this.jump(-1, { focuses: false }));
  }

  // What the machine wrote, "" where it gave no answer.
  get original() {
    return this.task?.machine?.answer ?? "";
  }

  // A text was begun that is neither saved nor the machine's.
  get hasDraft() {
    return this.task !== null && this.drafts.has(this.task.id);
  }

  show(task) {
    this.task = task;
    byId("written").hidden = false;
    this.#write(task.criticism?.facts ?? []);
    this.#showMode(false);
  }

  hide() {
    this.task = null;
    byId("written").hidden = true;
  }

  // Keep a text that could not be saved, or was taken back: editing the item goes on with it.
  keepDraft(taskId, text) {
    this.drafts.set(taskId, text);
  }

  // --- The facts -----------------------------------------------------------------------------------------------------

  // Offsets count characters, while a string's own count some characters twice.
  #write(facts) {
    const signs = Array.from(this.original);
    const parts = [];
    this.marks = [];
    this.current = -1;
    let at = 0;
    facts.forEach((fact, index) => {
      if (fact.error_prob < LIGHT) return;
      parts.push(signs.slice(at, fact.start).join(""));
      const mark = document.createElement("mark");
      mark.className = "fact";
      mark.textContent = signs.slice(fact.start, fact.end).join("");
      mark.dataset.doubt = fact.error_prob >= STRONG ? "strong" : "light";
      mark.dataset.badge = `${index + 1}: ${fact.error_prob.toFixed(2)}`;
      mark.title = `Fact ${index + 1}: error probability ${fact.error_prob.toFixed(3)}`;
      mark.tabIndex = -1;
      parts.push(mark);
      this.marks.push(mark);
      at = fact.end;
    });
    parts.push(signs.slice(at).join(""));
    byId("written-text").replaceChildren(...parts);
    byId("written-text").dataset.length = signs.length > 600 ? "long" : "short";
    const isChecked = facts.length > 0;
    byId("fact-bar").hidden = !isChecked;
    if (isChecked) this.#count(facts.length);
  }

  #count(total) {
    const flagged = this.marks.length;
    byId("fact-count").textContent = flagged
      ? `${flagged} of ${total} ${total === 1 ? "fact" : "facts"} in doubt`
      : total === 1 ? "Its only fact is not in doubt" : `None of ${total} facts is in doubt`;
    for (const id of ["fact-next", "fact-previous"]) byId(id).hidden = !flagged;
  }

  // To the next doubtful fact, or to the one before; after the last comes the first. A button that was pressed keeps the
  // focus, and with it its meaning for Enter.
  jump(step, { focuses = true } = {}) {
    if (!this.marks.length) return this.announce("No fact is in doubt.");
    this.marks[this.current]?.removeAttribute("data-current");
    const from = this.current < 0 && step < 0 ? 0 : this.current;
    this.current = (from + step + this.marks.length) % this.marks.length;
    const mark = this.marks[this.current];
    mark.setAttribute("data-current", "");
    if (focuses) mark.focus({ preventScroll: true });
    mark.scrollIntoView({ block: "center" });
    this.announce(`${mark.title}. ${mark.textContent}`);
  }

  // --- Editing -------------------------------------------------------------------------------------------------------

  edit() {
    if (this.task === null || this.isEditing) return;
    const editor = byId("written-editor");
    editor.value = this.drafts.get(this.task.id) ?? this.original;
    this.#showMode(true);
    this.#fit();
    editor.focus();
    const start = this.hasDraft ? editor.value.length : 0;
    editor.setSelectionRange(start, start);
    this.announce("Editing. Control and Enter saves, Escape leaves.");
  }

  leave() {
    if (!this.isEditing) return;
    this.#showMode(false);
    byId("stage").focus({ preventScroll: true });
    this.announce(this.hasDraft ? "Left. Your text is kept; E goes on with it." : "Left.");
  }

  saveEdit() {
    if (!this.isEditing) return;
    const text = byId("written-editor").value.trim();
    if (!text) {
      this.notify("Write an answer, or leave the field and skip the item.");
      byId("written-editor").focus();
      return;
    }
    this.save(text);
  }

  #keep() {
    const { value } = byId("written-editor");
    if (value === this.original) this.drafts.delete(this.task.id);
    else this.drafts.set(this.task.id, value);
    this.#fit();
  }

  // The field is as high as its text.
  #fit() {
    const editor = byId("written-editor");
    if (CSS.supports("field-sizing", "content")) return;
    editor.style.height = "auto";
    editor.style.height = `${editor.scrollHeight + 2}px`;
  }

  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.leave();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!event.repeat) this.saveEdit();
    }
  }

  #showMode(isEditing) {
    this.isEditing = isEditing;
    byId("written-editor").hidden = !isEditing;
    // Beside the field the facts in doubt stay to be seen.
    byId("written-text").hidden = !this.original || (isEditing && !this.marks.length);
    byId("written").toggleAttribute("data-editing", isEditing);
    byId("written-missing").hidden = isEditing || Boolean(this.original);
    byId("written-draft").hidden = isEditing || !this.hasDraft;
    for (const id of ["save-button", "leave-button"]) byId(id).hidden = !isEditing;
    for (const id of ["accept-button", "edit-button", "skip-button"]) byId(id).hidden = isEditing;
    byId("edit-text").textContent = this.hasDraft ? "Go on" : this.original ? "Edit" : "Write";
    this.onMode();
  }
}
