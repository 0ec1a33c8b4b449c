// Answers in the fragment of an address: #platforms=linux-x86_64,macos-arm64&backend=cu126. The server never sees it.

const LONGEST = 60; // of a value that is quoted in a message

/** Write answers as a fragment. */
export function write(answers) {
  const pairs = Object.entries(answers).map(([name, value]) => [name, Array.isArray(value) ? value.join(",") : value]);
  return new URLSearchParams(pairs).toString().replaceAll("%2C", ",");
}

/**
 * Read answers from a fragment.
 *
 * @returns The answers to questions that there are, and the names of others.
 */
export function read(fragment, form) {
  const types = new Map(form.map((question) => [question.name, question.type]));
  const answers = {};
  const unknown = [];
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    if (types.get(name) === "checkbox") answers[name] = text ? text.split(",") : [];
    else if (types.has(name)) answers[name] = text;
    else unknown.push(name);
  }
  return { answers, unknown };
}

/** Say which answers of a link do not count, and what counts instead: one line each. */
export function differences(answers, unknown, { form, refused }) {
  const replaced = form.filter(({ name }) => name in refused);
  return [
    ...unknown.map((name) => `The link answers “${short(name)}”, which is not a question.`),
    ...replaced.map(({ name, value }) => `The link's ${name}, “${short(answers[name])}”, is not possible: it is ${short(value)} now.`),
  ];
}

function short(value) {
  const text = String(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text || "empty";
}
