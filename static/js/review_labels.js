// The labels to choose from: a key for each where there are few, else found by typing.

const byId = (id) => document.getElementById(id);
const MOST_RECENT = 8;
const MOST_LIKELY = 5;
const WIDE = 40; // letters: a longer name is read in one wide column sooner than in two narrow ones
const LONG_WORD = 8; // letters: a longer word would be broken between them in the narrowest column

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();

// How well a name fits what was typed, 0 best; -1 where it does not. Both are plain.
export function fit(name, typed) {
  const at = name.indexOf(typed);
  if (at === 0) return 0;
  if (startsWord(name, typed)) return 1;
  if (at > 0) return 2;
  const parts = typed.split(/\s+/);
  return parts.length > 1 && parts.every((part) => startsWord(name, part)) ? 3 : -1;
}

function startsWord(name, typed) {
  for (let at = name.indexOf(typed); at >= 0; at = name.indexOf(typed, at + 1)) {
    if (at === 0 || !/[\p{L}\p{N}]/u.test(name[at - 1])) return true;
  }
  return false;
}

export class Labels {
  // `give(label)` answers with it; `announce(sentence)` is read aloud; `onLook(label)` is told of the label under the
  // pointer or the focus, null for none. `storage` names where the labels given lately are remembered.
  constructor({ labels, give, announce, onLook, storage }) {
    Object.assign(this, { labels, give, announce, onLook, storage });
    // Labels have the digits 1 to 9 in their order. Where all are digits themselves, each has its own: 4 gives “4”.
    this.areDigits = labels.every((label) => /^[0-9]$/.test(label.name));
    this.byKey = new Map(labels.map((label, index) => [this.#keyOf(label, index), label]).filter(([key]) => key));
    this.isRoomy = this.byKey.size === labels.length; // Every label has a key.
    this.byId = new Map(labels.map((label) => [label.id, label]));
    this.names = labels.map((label) => plain(label.name));
    this.machine = null; // id of the label in question
    this.recent = this.#remembered();
    this.picked = null;
    this.buttons = labels.map((label, index) => this.#button(label, index));
    byId("labels").replaceChildren(...this.buttons);
    byId("labels").dataset.many = String(labels.length > 12);
    byId("labels").dataset.long = String(labels.some(({ name }) => name.split(/\s+/).some((word) => word.length > LONG_WORD)));
    byId("labels").dataset.wide = String(labels.some(({ name }) => name.length > WIDE));
    byId("likely").hidden = this.isRoomy;
    byId("filter").hidden = this.isRoomy;
    this.#listen();
  }

  // Labels that are digits may have all ten; otherwise 0 is none of theirs.
  get digits() {
    return [...this.byKey.keys()];
  }

  show(task) {
    this.machine = task.machine?.label_id ?? null;
    this.buttons.forEach((button, index) => this.#mark(button, this.labels[index]));
    this.#showLikely();
    this.close();
  }

  remember(label) {
    this.recent = [label.id, ...this.recent.filter((id) => id !== label.id)].slice(0, MOST_RECENT);
    try {
      localStorage.setItem(this.storage, JSON.stringify(this.recent));
    } catch {
      // Storage is blocked: they are remembered while the page is open.
    }
  }

  // --- Finding -------------------------------------------------------------------------------------------------------

  open(typed) {
    byId("filter").hidden = false;
    const input = byId("filter-input");
    input.value = typed;
    input.focus();
    this.#filter();
  }

  close() {
    byId("filter-input").value = "";
    byId("filter").hidden = this.isRoomy;
    this.#filter();
  }

  #filter() {
    const typed = plain(byId("filter-input").value.trim());
    const found = typed ? this.#found(typed) : this.labels.map((_, index) => index);
    this.#keepHeight(typed !== "");
    const isFound = new Set(found);
    this.buttons.forEach((button, index) => { button.hidden = !isFound.has(index); });
    byId("labels").replaceChildren(...found.map((index) => this.buttons[index]),
      ...this.buttons.filter((_, index) => !isFound.has(index)));
    byId("labels-none").hidden = found.length > 0 || !this.labels.length;
    this.#pick(typed && found.length ? found[0] : null);
    if (!typed) return;
    this.announce(found.length
      ? `${found.length} ${found.length === 1 ? "label matches" : "labels match"}. Enter gives ${this.labels[found[0]].name}.`
      : "No label matches.");
  }

  // However few labels are left, the field stays where it is under the eyes.
  #keepHeight(isFinding) {
    const { style } = byId("labels");
    if (!isFinding) style.minHeight = "";
    else if (!style.minHeight) style.minHeight = `${byId("labels").getBoundingClientRect().height}px`;
  }

  // Places of the labels that fit, the best first; of equals the machine's, then those given lately.
  #found(typed) {
    const places = [];
    this.names.forEach((name, index) => {
      const rank = fit(name, typed);
      if (rank >= 0) places.push({ index, rank, liked: this.#liking(this.labels[index].id) });
    });
    places.sort((a, b) => a.rank - b.rank || a.liked - b.liked || a.index - b.index);
    return places.map((place) => place.index);
  }

  #liking(id) {
    if (id === this.machine) return -1;
    const at = this.recent.indexOf(id);
    return at < 0 ? MOST_RECENT : at;
  }

  #pick(index) {
    this.picked = index;
    this.buttons.forEach((button, at) => button.toggleAttribute("data-picked", at === index));
    byId("review").toggleAttribute("data-picking", index !== null); // Enter gives the picked label then.
    if (index !== null) this.buttons[index].scrollIntoView({ block: "nearest" });
    this.onLook(index === null ? null : this.labels[index]);
  }

  #move(step) {
    const places = [...byId("labels").children].filter((button) => !button.hidden).map((each) => this.buttons.indexOf(each));
    if (!places.length) return;
    const at = places.indexOf(this.picked);
    this.#pick(places[at < 0 ? (step > 0 ? 0 : places.length - 1) : (at + step + places.length) % places.length]);
    this.announce(this.labels[this.picked].name);
  }

  // Labels in a row of the grid, so that the arrows up and down go from row to row.
  #perRow() {
    const tops = [...byId("labels").children].filter((button) => !button.hidden).map((button) => button.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  #listen() {
    const input = byId("filter-input");
    input.addEventListener("input", () => this.#filter());
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      const steps = { ArrowDown: this.#perRow(), ArrowUp: -this.#perRow(), Tab: 0 };
      if (event.key === "Enter") {
        event.preventDefault();
        if (this.picked !== null && !event.repeat) this.give(this.labels[this.picked]);
      } else if (event.key === "Escape") {
        event.preventDefault();
        this.close();
        byId("stage").focus({ preventScroll: true });
      } else if (steps[event.key]) {
        event.preventDefault();
        this.#move(steps[event.key]);
      } else if (this.picked !== null && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
        if (input.selectionStart !== input.value.length) return; // The arrows belong to the text first.
        event.preventDefault();
        this.#move(event.key === "ArrowRight" ? 1 : -1);
      }
    });
    for (const name of ["labels", "likely"]) {
      byId(name).addEventListener("pointerover", (event) => this.#look(event));
      byId(name).addEventListener("focusin", (event) => this.#look(event));
      byId(name).addEventListener("pointerleave", () => this.onLook(null));
    }
  }

  #look(event) {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (button) this.onLook(this.byId.get(Number(button.dataset.label)) ?? null);
  }

  // --- Buttons -------------------------------------------------------------------------------------------------------

  #keyOf(label, index) {
    return this.areDigits ? label.name : index < 9 ? String(index + 1) : "";
  }

  #button(label, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "review-label";
    button.dataset.label = String(label.id);
    const key = index === null ? "" : this.#keyOf(label, index);
    if (key) {
      const sign = document.createElement("kbd");
      sign.textContent = key;
      sign.setAttribute("aria-hidden", "true");
      button.append(sign);
      button.setAttribute("aria-keyshortcuts", key);
    }
    const name = document.createElement("span");
    name.textContent = label.name;
    name.dir = "auto";
    button.append(name);
    if (label.description) button.title = label.description;
    button.addEventListener("click", () => this.give(label));
    return button;
  }

  #mark(button, label) {
    const isMachine = label.id === this.machine;
    button.toggleAttribute("data-machine", isMachine);
    button.setAttribute("aria-label", isMachine ? `${label.name}, the machine's label` : label.name);
  }

  // In front of a long set: the machine's label, then those given lately. The set itself keeps its order, so that a
  // label is where it was.
  #showLikely() {
    if (this.isRoomy) return;
    const ids = [this.machine, ...this.recent.filter((id) => id !== this.machine)];
    const likely = ids.map((id) => this.byId.get(id)).filter(Boolean).slice(0, MOST_LIKELY);
    byId("likely").replaceChildren(...likely.map((label) => {
      const button = this.#button(label, null);
      this.#mark(button, label);
      return button;
    }));
  }

  #remembered() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.storage) ?? "[]");
      return Array.isArray(kept) ? kept.slice(0, MOST_RECENT) : [];
    } catch {
      return [];
    }
  }
}
