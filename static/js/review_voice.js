// What the review screen says: sentences that stay until they are closed, passing ones, and those that are read aloud.

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const PASSES_AFTER = 4000;

export class Voice {
  constructor() {
    this.announced = "";
    this.passing = null;
    byId("notice-button").addEventListener("click", () => { byId("notice").hidden = true; });
  }

  // Sentences of one moment are read together: a live region that changes twice in a row speaks only the last time.
  announce(sentence) {
    if (!this.announced) {
      setTimeout(() => { byId("announcer").textContent = this.announced; this.announced = ""; }, 50);
    }
    this.announced = `${this.announced} ${sentence}`.trim();
  }

  // To be read before going on.
  notify(sentence) {
    byId("notice-text").textContent = sentence;
    byId("notice").hidden = false;
  }

  // To be glanced at: seen for a moment, and read aloud.
  hint(sentence) {
    clearTimeout(this.passing);
    byId("hint").textContent = sentence;
    byId("hint").hidden = false;
    this.passing = setTimeout(() => { byId("hint").hidden = true; }, PASSES_AFTER);
    this.announce(sentence);
  }

  endHint() {
    clearTimeout(this.passing);
    byId("hint").hidden = true;
  }

  // What is not saved yet, and why; nothing is said while it only takes a moment.
  unsaved(answers, notes) {
    const troubled = [answers, notes].filter((outbox) => outbox.count && outbox.trouble);
    byId("unsaved").hidden = !troubled.length;
    if (!troubled.length) return;
    const parts = [
      answers.count ? `${number.format(answers.count)} ${answers.count === 1 ? "answer" : "answers"}` : "",
      notes.count ? `${number.format(notes.count)} ${notes.count === 1 ? "note" : "notes"}` : "",
    ].filter(Boolean);
    const isOne = answers.count + notes.count === 1;
    byId("unsaved-text").textContent = `${parts.join(" and ")} ${isOne ? "is" : "are"} not saved yet. `
      + `${troubled[0].trouble} ${isOne ? "It is" : "They are"} kept in this browser and sent again.`;
  }
}
