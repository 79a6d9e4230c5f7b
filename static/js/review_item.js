// The item on the review screen and what is known about it. Whatever the server says is put on the page as text, never
// as markup.

const byId = (id) => document.getElementById(id);

// What whoever answers sees of the machine's, item by item.
const ARM_WORDS = {
  blind: "You see this item without the machine's label.",
  label: "You see the machine's label without a criticism.",
};

export const armOf = (task) => task.arm ?? (task.blind ? "blind" : "criticism");

export class ItemView {
  // `span` is the part of the screen for answers that are spans of the text, where the project's are.
  constructor({ isWritten, span }) {
    this.isWritten = isWritten;
    this.span = span;
  }

  show(task) {
    this.#showWords(task);
    this.#showMachine(task);
  }

  hide() {
    for (const id of ["words", "columns"]) byId(id).hidden = true;
  }

  // What a screen reader says of an item as it comes.
  describe(task) {
    if (this.isWritten) return describeAnswer(task);
    const doubt = task.criticism?.error_prob != null ? `Error probability ${task.criticism.error_prob.toFixed(3)}.` : "";
    if (this.span) return [this.span.describe(task), doubt].join(" ");
    const machine = task.machine ? `The machine says ${task.machine.label}.` : "";
    return [`Item ${task.item.external_id}.`, machine, doubt].join(" ");
  }

  #showWords(task) {
    const { question, text, columns } = task.item;
    byId("item-name").textContent = task.item.external_id;
    byId("question").textContent = question;
    byId("question").hidden = !question;
    byId("text").textContent = text;
    byId("text").hidden = !text;
    const isLong = text.length > 600;
    byId("text").dataset.length = isLong ? "long" : "short";
    byId("text").tabIndex = isLong ? 0 : -1; // A long one scrolls: the keyboard must get there.
    const names = Object.keys(columns ?? {});
    byId("columns").hidden = !names.length;
    byId("columns-list").replaceChildren(...names.flatMap((name) => [
      element("dt", name), element("dd", columns[name] === null ? "" : String(columns[name])),
    ]));
    byId("words").hidden = !question && !text;
  }

  // What a machine gives, in a word.
  get #answer() {
    return this.isWritten || this.span ? "answer" : "label";
  }

  #showMachine(task) {
    if (!byId("machine")) return; // The page of a calibration or an audit has no place for it.
    const { machine, criticism, failure } = task;
    const words = this.isWritten ? "" : ARM_WORDS[armOf(task)]?.replace("label", this.#answer) ?? "";
    write("arm", words);
    byId("machine").hidden = !machine || (this.isWritten && criticism == null);
    byId("machine-voice").hidden = !machine;
    if (machine) {
      write("machine-label", machine.label ?? "");
      byId("machine-who").textContent = machine.who;
      write("machine-confidence", machine.confidence == null ? "" : `Its confidence is ${machine.confidence.toFixed(2)}.`);
      write("machine-reasoning", task.steps?.length ? "" : machine.reasoning);
    }
    showSteps(task.steps ?? [], task.stopped_at);
    const doubt = criticism?.error_prob ?? criticism?.quality;
    byId("doubt-line").hidden = doubt == null;
    if (doubt != null) {
      byId("doubt").setAttribute("width", String(100 * doubt));
      byId("doubt-number").textContent = doubt.toFixed(3);
    }
    byId("criticism").hidden = !criticism;
    if (criticism) {
      byId("criticism-who").textContent = criticism.who;
      write("criticism-reasoning", criticism.reasoning);
    }
    byId("failure").hidden = !failure;
    if (failure) {
      byId("failure-text").textContent = `The machine gave no ${this.#answer}. ${failure.message}`;
    }
  }
}

// The annotator's reasoning where a router read along; it ends where the router stopped it.
function showSteps(steps, stoppedAt) {
  byId("steps").hidden = !steps.length;
  const items = steps.map((step, place) => {
    const item = element("li", step);
    item.className = "plain-text";
    item.dir = "auto";
    if (place + 1 === stoppedAt) {
      const mark = element("span", "stopped here");
      mark.className = "badge badge-plain";
      mark.dataset.tone = "warn";
      item.append(" ", mark);
    }
    return item;
  });
  byId("steps-list").replaceChildren(...items);
}

function describeAnswer(task) {
  const facts = task.criticism?.facts ?? [];
  const flagged = facts.filter((fact) => fact.error_prob >= 0.25).length;
  const quality = task.criticism?.quality;
  return [
    `Item ${task.item.external_id}.`,
    facts.length ? `${flagged} of ${facts.length} facts in doubt.` : "",
    quality == null ? "" : `Quality ${quality.toFixed(3)}.`,
  ].join(" ");
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function write(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}
