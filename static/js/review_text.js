// A text to read: its size, the place where somebody was in it, and words of it marked by keyboard or pointer, to be
// quoted in a note.

const SIZES = 7; // 0 to 6; the usual one is 2.
const USUAL = 2;

const byId = (id) => document.getElementById(id);

export class TextReader {
  // `storage` names where the size of texts is remembered.
  constructor({ announce, storage }) {
    Object.assign(this, { announce, storage });
    this.task = null;
    this.places = new Map(); // task id → how far its panels were scrolled
    this.words = null; // [start, end) of each word, in characters of the text's node; made when first needed
    this.isMarking = false;
    this.anchor = 0;
    this.at = 0;
    this.size = this.#remembered();
    this.#showSize();
  }

  show(task) {
    this.leave();
    this.task = task;
    this.words = null;
    const place = this.places.get(task.id) ?? {};
    for (const panel of panels()) panel.scrollTop = place[panel.id] ?? 0;
  }

  hide() {
    this.leave();
    this.task = null;
  }

  // Of an item that is answered, undo brings back the place where it was read. To be called while it is still there.
  keepPlace() {
    if (this.task) this.places.set(this.task.id, Object.fromEntries(panels().map((panel) => [panel.id, panel.scrollTop])));
  }

  // --- Size ----------------------------------------------------------------------------------------------------------

  resize(step) {
    this.size = Math.min(SIZES - 1, Math.max(0, this.size + step));
    this.#showSize();
    this.announce(`Text size ${this.size + 1} of ${SIZES}.`);
    try {
      localStorage.setItem(this.storage, String(this.size));
    } catch {
      // Storage is blocked: the size holds while the page is open.
    }
  }

  #showSize() {
    byId("review").dataset.textSize = String(this.size);
  }

  #remembered() {
    try {
      const size = Number(localStorage.getItem(this.storage) ?? USUAL);
      return Number.isInteger(size) && size >= 0 && size < SIZES ? size : USUAL;
    } catch {
      return USUAL;
    }
  }

  // --- Words ---------------------------------------------------------------------------------------------------------

  // The words that are marked on the item, by whichever means; "" for none.
  get marked() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return "";
    const within = [byId("words"), byId("written")].some((place) => place?.contains(selection.getRangeAt(0).commonAncestorContainer));
    return within ? selection.toString().trim() : "";
  }

  // Begin to mark words by keyboard, at the first one.
  mark() {
    const node = byId("text").firstChild;
    if (!this.task || !node) return this.announce("This item has no text.");
    this.words ??= wordsOf(node.data);
    if (!this.words.length) return this.announce("This text has no words.");
    this.isMarking = true;
    byId("text").dataset.marking = "";
    this.#go(0, false);
    this.announce("Marking words. Arrows move, with Shift they extend, Escape leaves.");
  }

  leave() {
    if (!this.isMarking) return;
    this.isMarking = false;
    delete byId("text").dataset.marking;
    getSelection().removeAllRanges();
  }

  // Returns whether the key was one of marking.
  onKey(event) {
    if (!this.isMarking || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "Escape") {
      this.leave();
      this.announce("No words are marked.");
      return true;
    }
    const forward = getComputedStyle(byId("text")).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backward = forward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const last = this.words.length - 1;
    const to = {
      [forward]: () => Math.min(last, this.at + 1),
      [backward]: () => Math.max(0, this.at - 1),
      ArrowDown: () => this.#onLine(1),
      ArrowUp: () => this.#onLine(-1),
      Home: () => 0,
      End: () => last,
    }[event.key];
    if (!to) return false;
    this.#go(to(), event.shiftKey);
    return true;
  }

  #go(at, extends_) {
    this.at = at;
    if (!extends_) this.anchor = at;
    const node = byId("text").firstChild;
    const [first, last] = [Math.min(at, this.anchor), Math.max(at, this.anchor)];
    getSelection().setBaseAndExtent(node, this.words[first][0], node, this.words[last][1]);
    this.bringIntoView(this.#box(at));
    const words = node.data.slice(this.words[first][0], this.words[last][1]);
    this.announce(words.length <= 120 ? words : `${last - first + 1} words marked.`);
  }

  #box(index) {
    const range = document.createRange();
    const node = byId("text").firstChild;
    range.setStart(node, this.words[index][0]);
    range.setEnd(node, this.words[index][1]);
    return range.getBoundingClientRect();
  }

  // The word nearest to the same place on the line below or above.
  #onLine(step) {
    const from = this.#box(this.at);
    const middle = (from.left + from.right) / 2;
    let line = null;
    let best = this.at;
    let nearest = Infinity;
    for (let index = this.at + step; index >= 0 && index < this.words.length; index += step) {
      const box = this.#box(index);
      if (step * (box.top - from.top) < from.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > box.height / 2) break;
      const distance = Math.abs((box.left + box.right) / 2 - middle);
      if (distance < nearest) [best, nearest] = [index, distance];
    }
    return best;
  }

  // Scroll so that a box of the page is seen, wherever the text scrolls; with `centers`, to the middle if it scrolls.
  bringIntoView(box, { centers = false } = {}) {
    const question = byId("question"); // Where it stays above the text, nothing behind it is seen.
    const covered = getComputedStyle(question).position === "sticky" ? question.getBoundingClientRect().bottom : 0;
    for (const panel of panels()) {
      if (!panel.contains(byId("text")) || panel.scrollHeight <= panel.clientHeight) continue;
      const { top: edge, bottom: end } = panel.getBoundingClientRect();
      const start = Math.max(edge, covered);
      if (box.top >= start + 24 && box.bottom <= end - 24) continue;
      if (centers) panel.scrollTop += (box.top + box.bottom) / 2 - (start + end) / 2;
      else if (box.top < start + 24) panel.scrollTop -= start + 48 - box.top;
      else panel.scrollTop += box.bottom + 48 - end;
    }
    const answer = document.querySelector(".review-answer");
    const bottom = getComputedStyle(answer).position === "sticky" ? answer.getBoundingClientRect().top : innerHeight;
    if (document.scrollingElement.scrollHeight > innerHeight && (box.top < covered || box.bottom > bottom)) {
      scrollBy(0, box.top - (covered + bottom) / 2);
    }
  }
}

// What scrolls by itself, depending on the window and the task.
const panels = () => ["stage", "said", "words", "written", "text"].map(byId).filter(Boolean);

function wordsOf(text) {
  const words = [];
  for (const part of new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)) {
    if (part.isWordLike) words.push([part.index, part.index + part.segment.length]);
  }
  return words;
}
