// Answers in the fragment of an address: #platforms=linux-x86_64,macos-arm64&backend=cu126. The server never sees it.

const LONGEST = 60; // of a value that is quoted in a message
export const MOST_LETTERS = 1000; // of an answer
const MOST_CHARACTERS = 16_000; // of all answers: one of them in Chinese is nine a letter
const MOST_LINES = 4; // that say what is wrong

/** Write answers as a fragment. */
export function write(answers) {
  const pairs = Object.entries(answers).map(([name, value]) => [name, Array.isArray(value) ? value.join(",") : value]);
  return new URLSearchParams(pairs).toString().replaceAll("%2C", ",");
}

/**
 * Read answers from a fragment.
 *
 * @returns The answers to questions that there are, and what is wrong with others: a line each.
 */
export function read(fragment, form) {
  if (fragment.length > MOST_CHARACTERS) {
    const problem = `The link is too long: it has ${fragment.length} characters, and may have ${MOST_CHARACTERS}.`;
    return { answers: {}, problems: [problem] };
  }
  const types = new Map(form.map((question) => [question.name, question.type]));
  const answers = {};
  const problems = [];
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    if (!types.has(name)) problems.push(`The link answers “${short(name)}”, which is not a question.`);
    else if (text.length > MOST_LETTERS) problems.push(`The link's ${name} is too long.`);
    else answers[name] = types.get(name) === "checkbox" ? text.split(",").filter(Boolean) : text;
  }
  const rest = problems.splice(MOST_LINES).length;
  if (rest) problems.push(`${rest} more answers of the link do not count.`);
  return { answers, problems };
}

/** Say which answers of a link are refused, and what counts instead: a line each. */
export function replaced(answers, { form, refused }) {
  return form
    .filter(({ name }) => name in refused)
    .map(({ name, value }) => `The link's ${name}, “${short(answers[name])}”, is not possible: it is ${short(value)} now.`);
}

function short(value) {
  const text = String(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text || "empty";
}
