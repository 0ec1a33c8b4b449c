import { arrange, make, prose, say } from "./dom.mjs";
import { MOST_LETTERS } from "./link.mjs";

const BY_NAME = "torch_index"; // asked in a terminal only with --ask
// The first question of each section
const SECTIONS = {
  project_name: "Project",
  platforms: "Machines and PyTorch",
  skeleton: "Skeleton and extras",
  [BY_NAME]: "Mirror",
};
const AT_ONCE = 5; // of more choices than a few, so many that are available are shown at first, and what is chosen
const SHORT = 26; // letters of choices that fit beside one another
const PAUSE = 200; // ms without a key, after which a text counts

/** The questions of the template. They react at once; what follows from an answer comes by `show`. */
export class Form {
  #nodes = new Map();
  #sections = new Map();

  /**
   * @param root The element that holds them.
   * @param onAnswer Is told the name of a question and its new answer; of undefined, that the default counts again.
   */
  constructor(root, onAnswer) {
    this.root = root;
    this.onAnswer = onAnswer;
    root.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Show the questions with their answers, and why Copier refuses some of them. A link's count even where one types. */
  show(form, refused, isLink = false) {
    const focused = document.activeElement?.id;
    const questions = new Map();
    let title;
    for (const question of form.filter(({ name, asked }) => asked || name === BY_NAME || name in refused)) {
      title = SECTIONS[question.name] ?? title;
      questions.set(title, [...(questions.get(title) ?? []), this.#node(question, refused[question.name], isLink)]);
    }
    for (const [name, nodes] of questions) arrange(this.#section(name), nodes);
    arrange(this.root, [...questions.keys()].map((name) => this.#section(name).parentElement));
    if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
  }

  #section(title) {
    if (!this.#sections.has(title)) {
      const body = make("div", { className: "section" });
      const folded = title === "Mirror";
      const heading = make("h2", {}, title);
      const parent = folded
        ? make("details", { className: "card" }, make("summary", {}, heading), body)
        : make("section", { className: "card" }, heading, body);
      if (!folded) parent.setAttribute("aria-label", title);
      this.#sections.set(title, body);
    }
    return this.#sections.get(title);
  }

  /** Return the element of a question; a new one if its words or choices have changed. */
  #node(question, refusal = "", isLink) {
    const shape = JSON.stringify([question.type, question.message, question.choices]);
    let node = this.#nodes.get(question.name);
    if (node?.shape !== shape) {
      const build = question.choices?.length ? choices : text;
      node = { ...build(question, (value) => this.onAnswer(question.name, value), node), shape };
      node.refusal = make("p", { className: "refusal", id: `${question.name}-refusal`, role: "alert" });
      node.back = make("button", { className: "link", type: "button", hidden: true });
      node.back.addEventListener("click", () => {
        node.fill(node.instead);
        node.element.querySelector("input")?.focus();
        this.onAnswer(question.name, undefined);
      });
      node.element.append(node.refusal, node.back);
      this.#nodes.set(question.name, node);
    }
    node.instead = question.value;
    say(node.refusal, refusal);
    say(node.back, refusal && `Use ${[].concat(question.value).join(", ") || "no value"} instead`);
    node.element.classList.toggle("refused", Boolean(refusal));
    if (!refusal) node.fill(question.value, isLink);
    return node.element;
  }
}

/** Ask for a text. */
function text({ name, message }, answer) {
  const attributes = { type: "text", spellcheck: false, maxLength: MOST_LETTERS, "aria-describedby": `${name}-refusal` };
  const input = make("input", { id: `q-${name}`, ...attributes });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => answer(input.value), PAUSE);
  });
  const label = make("label", { htmlFor: input.id, className: "asked" }, ...words(message, name));
  const element = make("div", { className: "question text", id: `question-${name}` }, label, input);
  const fill = (value, isLink) => {
    if (isLink) clearTimeout(timer);
    if (isLink || document.activeElement !== input) input.value = value;
  };
  return { element, fill };
}

/** Ask for one choice, or for several. */
function choices({ name, type, message, choices }, answer, previous) {
  const several = type === "checkbox";
  const inputs = choices.map((choice, index) =>
    make("input", {
      id: `q-${name}-${index}`,
      type: several ? "checkbox" : "radio",
      name,
      value: choice.value,
      disabled: Boolean(choice.disabled),
    }),
  );
  const rows = choices.map((choice, index) => row(choice, inputs[index]));
  const list = make("div", { className: "choices" }, ...rows);
  list.classList.toggle("beside", choices.every((choice) => choice.title.length <= SHORT && !choice.disabled));
  const legend = make("legend", { className: "asked" }, ...words(message, name));
  const element = make("fieldset", { className: "question", id: `question-${name}` }, legend, list);
  element.setAttribute("aria-describedby", `${name}-refusal`);

  let open = previous?.isOpen?.() ?? false;
  const more = make("button", { className: "link", type: "button" }, `Show all ${choices.length}`);
  const likely = new Set(inputs.filter((input) => !input.disabled).slice(0, AT_ONCE));
  const fold = () => {
    const folded = !open && choices.length > AT_ONCE + 2;
    rows.forEach((each, index) => (each.hidden = folded && !likely.has(inputs[index]) && !inputs[index].checked));
    more.hidden = !folded;
  };
  more.addEventListener("click", () => {
    open = true;
    fold();
    (inputs.find((input) => input.checked) ?? inputs.find((input) => !input.disabled))?.focus();
  });
  element.append(more);

  list.addEventListener("change", () => {
    const chosen = inputs.filter((input) => input.checked).map((input) => input.value);
    answer(several ? chosen : chosen[0]);
  });
  const fill = (value) => {
    for (const input of inputs) input.checked = [].concat(value).includes(input.value);
    fold();
  };
  return { element, fill, isOpen: () => open };
}

/** A choice, in the words of the template: what comes before the first comma, colon or parenthesis is its name. */
function row({ title, disabled }, input) {
  const [, name, rest] = /^(.+?)((?:: |, | \().*)?$/s.exec(title);
  const label = make("span", {}, make("b", {}, name));
  if (rest) label.append(make("span", { className: "rest" }, rest));
  if (disabled) label.append(make("span", { className: "why" }, String(disabled)));
  return make("label", { className: "choice", htmlFor: input.id }, input, label);
}

/** The words of a question, and its name, as --data takes it. */
function words(message, name) {
  return [make("span", {}, ...prose(message)), make("code", { className: "tag", "aria-hidden": "true" }, name)];
}
