// The keys of the commands: the usual ones, those that this person chose instead, and the dialog to choose them in.

const byId = (id) => document.getElementById(id);
const NAMED = /^(F([1-9]|1[0-2])|Insert|Delete|Backspace)$/;
const isLetter = (sign) => sign.toLowerCase() !== sign.toUpperCase();

// A key press as commands know it: "s", "Shift+S", "?", "Alt+n"; "" for what can be nobody's key.
export function nameOf(event, sign = event.key) {
  const isTypedSign = event.getModifierState?.("AltGraph") ?? false; // Some keyboards type [ and / with it.
  if ((event.ctrlKey || event.metaKey) && !isTypedSign) return "";
  if (NAMED.test(sign)) return `${event.shiftKey ? "Shift+" : ""}${sign}`;
  if (Array.from(sign).length !== 1 || sign === " ") return "";
  const alt = event.altKey && !isTypedSign ? "Alt+" : "";
  if (!isLetter(sign)) return alt + sign;
  return alt + (event.shiftKey ? `Shift+${sign.toUpperCase()}` : sign.toLowerCase());
}

// On a keyboard of another script, S is where it is on a Latin one.
function latinNameOf(event) {
  const place = /^Key([A-Z])$/.exec(event.code);
  return place && isLetter(event.key) && !/[a-z]/i.test(event.key) ? nameOf(event, place[1]) : "";
}

export class Keys {
  // `commands` are {name, words, keys}; `chosen` the keys by command that differ; `taken` the keys of labels.
  // With `lettersSearch`, letters find labels, and commands that have a letter take Shift with it. `save(changes)`
  // resolves to the server's reply.
  constructor({ commands, chosen, taken, lettersSearch, storage, save, announce }) {
    Object.assign(this, { commands, chosen, lettersSearch, storage, save, announce });
    this.taken = new Set(taken);
    this.recording = null; // name of the command whose new key is waited for
    this.unsaved = this.#stored();
    for (const [name, keys] of Object.entries(this.unsaved)) this.#choose(name, keys);
    this.#assign();
    this.#listen();
    void this.flush();
  }

  // The name of the command that was asked for; "" for none.
  commandOf(event) {
    return this.byKey.get(nameOf(event)) ?? this.byKey.get(latinNameOf(event)) ?? "";
  }

  // The key to press for a command, in words: "Shift S".
  words(name) {
    return (this.keysOf.get(name)?.[0] ?? "").replaceAll("+", " ").replace(/^ $/, "+").replace(/[a-z]$/, (each) => each.toUpperCase());
  }

  // --- Who has which key ---------------------------------------------------------------------------------------------

  #assign() {
    this.byKey = new Map();
    this.keysOf = new Map();
    const isChosen = (command) => command.name in this.chosen;
    // Chosen ones come first; a key has one command.
    for (const command of [...this.commands].sort((a, b) => Number(isChosen(b)) - Number(isChosen(a)))) {
      const wanted = (this.chosen[command.name] ?? command.keys).map((key) => this.#here(key));
      const keys = wanted.filter((key) => !this.taken.has(key) && !this.byKey.has(key));
      keys.forEach((key) => this.byKey.set(key, command.name));
      this.keysOf.set(command.name, keys);
    }
    this.#show();
  }

  // A command's key on this screen.
  #here(key) {
    return this.lettersSearch && key.length === 1 && isLetter(key) ? `Shift+${key.toUpperCase()}` : key;
  }

  // The key as it is kept for all screens.
  #everywhere(key) {
    return this.lettersSearch && /^Shift\+.$/u.test(key) ? key.at(-1).toLowerCase() : key;
  }

  // --- What is shown -------------------------------------------------------------------------------------------------

  #show() {
    for (const sign of document.querySelectorAll("[data-key-of]")) {
      sign.textContent = this.words(sign.dataset.keyOf);
      sign.hidden = !sign.textContent;
    }
    for (const button of document.querySelectorAll("button[data-command]")) {
      const keys = this.keysOf.get(button.dataset.command) ?? [];
      if (keys.length) button.setAttribute("aria-keyshortcuts", keys.join(" "));
      else button.removeAttribute("aria-keyshortcuts");
    }
    for (const row of document.querySelectorAll("[data-keys-of]")) this.#showRow(row);
    byId("keys-reset").disabled = !Object.keys(this.chosen).length;
  }

  #showRow(row) {
    const name = row.dataset.keysOf;
    const isWaiting = this.recording === name;
    const signs = (this.keysOf.get(name) ?? []).map((key) => {
      const sign = document.createElement("kbd");
      sign.textContent = key.length > 1 ? key.replace("Alt+", "Alt ").replace("Shift+", "Shift ") : key.toUpperCase();
      return sign;
    });
    row.querySelector(".review-key-signs").replaceChildren(...(isWaiting ? ["Press a key …"] : signs.length ? signs : ["None"]));
    const button = row.querySelector("button");
    button.textContent = isWaiting ? "Cancel" : "Change";
    row.toggleAttribute("data-recording", isWaiting);
    row.toggleAttribute("data-chosen", name in this.chosen);
  }

  #say(sentence) {
    byId("keys-said").textContent = sentence; // It is a live region itself.
  }

  // --- Changing ------------------------------------------------------------------------------------------------------

  #listen() {
    const dialog = byId("help-dialog");
    dialog.addEventListener("click", (event) => {
      const row = event.target.closest("[data-keys-of]");
      if (row && event.target.closest("button")) this.#record(this.recording === row.dataset.keysOf ? null : row.dataset.keysOf);
    });
    dialog.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
    dialog.addEventListener("close", () => this.#record(null));
    byId("keys-reset").addEventListener("click", () => {
      void this.#change(Object.fromEntries(Object.keys(this.chosen).map((name) => [name, null])), "All keys are as usual.");
    });
    addEventListener("online", () => void this.flush());
  }

  #record(name) {
    this.recording = name;
    this.#show();
    const command = this.commands.find((each) => each.name === name);
    this.#say(command ? `Press the new key of “${command.words}”, or Esc to keep it as it is.` : "");
  }

  #onKey(event) {
    if (!this.recording || event.key === "Tab") return;
    if (["Shift", "Control", "Alt", "Meta", "AltGraph", "CapsLock"].includes(event.key)) return;
    if (event.target instanceof HTMLButtonElement && (event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") return this.#record(null);
    const key = nameOf(event);
    const command = this.commands.find((each) => each.name === this.recording);
    if (!key || /^[1-9]$/.test(key) || this.taken.has(key)) {
      return this.#say(/^[0-9]$/.test(key) ? "Digits are the labels' keys: press another one." : "This key cannot be one: press a letter, a sign, or F1 to F12.");
    }
    if (this.lettersSearch && key.length === 1 && isLetter(key)) {
      return this.#say("Letters find labels here: press it together with Shift.");
    }
    const owner = this.commands.find((each) => each.name === this.byKey.get(key));
    if (owner && owner !== command) {
      return this.#say(`This is the key of “${owner.words}” already: press another one, or change that one first.`);
    }
    this.recording = null;
    void this.#change({ [command.name]: [this.#everywhere(key)] }, `“${command.words}” has a new key.`);
  }

  async #change(changes, sentence) {
    const before = { ...this.chosen };
    for (const [name, keys] of Object.entries(changes)) this.#choose(name, keys);
    this.#assign();
    this.#say(sentence);
    this.unsaved = { ...this.unsaved, ...changes };
    this.#store();
    const refusal = await this.flush();
    if (!refusal) return;
    this.chosen = before;
    this.#assign();
    this.#say(refusal);
  }

  #choose(name, keys) {
    this.chosen = { ...this.chosen };
    if (keys === null) delete this.chosen[name];
    else this.chosen[name] = keys;
  }

  // Keep the changes with the account. Resolves to the sentence of a refusal; "" where they are kept, or will be later.
  async flush() {
    const changes = this.unsaved;
    if (!Object.keys(changes).length) return "";
    let reply;
    try {
      reply = await this.save(changes);
    } catch {
      return ""; // They are kept in this browser, and sent with the next page.
    }
    if (reply.status >= 500 || reply.status === 401) return "";
    this.unsaved = Object.fromEntries(Object.entries(this.unsaved).filter(([name, keys]) => changes[name] !== keys));
    this.#store();
    return reply.status === 200 ? "" : reply.sentence;
  }

  #store() {
    try {
      if (Object.keys(this.unsaved).length) localStorage.setItem(this.storage, JSON.stringify(this.unsaved));
      else localStorage.removeItem(this.storage);
    } catch {
      // Storage is blocked: they hold while the page is open.
    }
  }

  #stored() {
    try {
      return JSON.parse(localStorage.getItem(this.storage) ?? "{}") ?? {};
    } catch {
      return {};
    }
  }
}
