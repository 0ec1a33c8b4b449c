import { make } from "./dom.mjs";

const FIRST = "pyproject.toml";
const MARKS = { new: "+", changed: "•", gone: "−" };

/** The tree of files. Folders that hold a change open by themselves. */
export class Tree {
  #open = new Map(); // path of a folder -> whether the visitor has it open

  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
  }

  /** Show paths, what happened to some of them (path -> new, changed, gone), and which one is read. */
  show(paths, changed, chosen) {
    const focused = document.activeElement?.dataset?.path;
    const top = { folders: new Map(), files: [] };
    for (const path of [...paths].sort((a, b) => (a === FIRST ? -1 : b === FIRST ? 1 : a < b ? -1 : 1))) {
      const parts = path.split("/");
      let folder = top;
      for (const name of parts.slice(0, -1)) {
        if (!folder.folders.has(name)) folder.folders.set(name, { folders: new Map(), files: [] });
        folder = folder.folders.get(name);
      }
      folder.files.push(path);
    }
    this.changed = changed;
    this.chosen = chosen;
    const pinned = top.files.splice(0, Number(top.files[0] === FIRST)).map((path) => this.#file(path, path));
    const list = this.#list(top, "");
    list.prepend(...pinned);
    this.root.replaceChildren(list);
    if (focused !== undefined) {
      [...this.root.querySelectorAll("[data-path]")].find((each) => each.dataset.path === focused)?.focus();
    }
  }

  #list({ folders, files }, above) {
    const rows = [...folders].map(([name, folder]) => this.#folder(name, folder, `${above}${name}/`));
    return make("ul", {}, ...rows, ...files.map((path) => this.#file(path, path.slice(above.length))));
  }

  #folder(name, folder, path) {
    const inside = [...this.changed.keys()].some((each) => each.startsWith(path));
    const details = make("details", {}, make("summary", {}, `${name}/`), this.#list(folder, path));
    details.firstChild.dataset.path = path;
    details.open = inside || this.chosen.startsWith(path) || (this.#open.get(path) ?? /^src\/([^/]+\/)?$/.test(path));
    details.firstChild.addEventListener("click", () => this.#open.set(path, !details.open));
    return make("li", {}, details);
  }

  #file(path, name) {
    const change = this.changed.get(path);
    const button = make("button", { type: "button", className: change ?? "" }, make("span", { className: "name" }, name));
    button.dataset.path = path;
    if (path === this.chosen) button.setAttribute("aria-current", "true");
    if (change) {
      button.append(make("span", { className: "mark", "aria-hidden": "true" }, MARKS[change]));
      button.append(make("span", { className: "hidden" }, ` (${change})`));
    }
    button.addEventListener("click", () => this.onChoose(path));
    return make("li", {}, button);
  }
}
