// Requests of the review screen. One after the other: what is handed out then never overtakes what was answered.

const PATIENCE = 20 * 1000;

export class Server {
  constructor({ csrf, rounds, tasks }) {
    this.csrf = csrf;
    this.rounds = rounds;
    this.tasks = tasks;
    this.lane = Promise.resolve();
  }

  roundUrl(action) {
    return `${this.rounds}${action}/`;
  }

  taskUrl(taskId, action) {
    return `${this.tasks}${taskId}/${action}/`;
  }

  // Resolves to {status, data, sentence}; rejects where the network fails.
  post(url, body) {
    const reply = this.lane.then(() => this.exchange(url, { method: "POST", body }));
    this.lane = reply.catch(() => undefined);
    return reply;
  }

  // What waits for nothing else: reading beside the item, and settings.
  async exchange(url, { method = "GET", body } = {}) {
    const response = await this.#request(url, method, body, { signal: AbortSignal.timeout(PATIENCE) });
    let data = null;
    try {
      data = await response.json();
    } catch {
      // A proxy's error page, say: the status is all there is to know.
    }
    return { status: response.status, data, sentence: response.ok ? "" : sentenceOf(response.status, data) };
  }

  // Sent while the page is left; nobody is there to hear the reply.
  sendOff(url, body) {
    void this.#request(url, "POST", body, { keepalive: true }).catch(() => undefined);
  }

  #request(url, method, body, options) {
    return fetch(url, {
      method,
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": this.#csrfToken() },
      body: body === undefined ? undefined : JSON.stringify(body),
      ...options,
    });
  }

  #csrfToken() {
    // The cookie's is newer than the page's after signing in again in another tab.
    const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
    return cookie ? cookie.slice("csrftoken=".length) : this.csrf;
  }
}

function sentenceOf(status, data) {
  if (status === 401) return "You are signed out. Sign in again in another tab.";
  if (data && typeof data.detail === "string") return data.detail;
  return `The server answered with an error (${status}).`;
}
