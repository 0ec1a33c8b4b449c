import { byId, say } from "./dom.mjs";
import { visitorSystem } from "./machines.mjs";

const SHOWN = 1500; // ms that a button says what it did

/** Taking the project along: the commands, and what buttons copy. */
export class Take {
  constructor() {
    const shell = visitorSystem() === "win32" ? "powershell" : "bash";
    document.querySelector(`#shells [value=${shell}]`).checked = true;
    byId("shells").addEventListener("change", () => this.#write());
    byId("ways").addEventListener("change", () => this.#write());
    copies("copy-command", () => byId("command").textContent);
    copies("copy-torch", () => this.reply.torch);
  }

  show(reply) {
    this.reply = reply;
    byId("message").textContent = reply.message.trim();
    this.#write();
  }

  #write() {
    const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
    byId("command").textContent = this.reply[chosen("way")][chosen("shell")];
    byId("existing").hidden = chosen("way") !== "adopt";
    byId("next").hidden = chosen("way") === "adopt";
  }
}

/** Let a button copy a text, and say so. */
export function copies(id, text) {
  acts(id, "Copied", () => navigator.clipboard.writeText(text()));
}

/** Let a button do something, and say for a moment how it went. */
export function acts(id, done, act) {
  const button = byId(id);
  const name = button.textContent;
  let timer;
  button.addEventListener("click", async () => {
    clearTimeout(timer);
    try {
      await act();
      say(button, done);
    } catch {
      say(button, "Not possible here");
    }
    timer = setTimeout(() => say(button, name), SHOWN);
  });
}

/** Save bytes as a file. */
export function save(bytes, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
