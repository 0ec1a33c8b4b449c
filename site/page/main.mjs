// The page: answers go to the engine, and its reply is shown. What the visitor has not answered follows from the template.

import { ask, begin, keepOffline } from "./client.mjs";
import { changes } from "./diff.mjs";
import { byId, say } from "./dom.mjs";
import { Form } from "./form.mjs";
import { read, replaced, write } from "./link.mjs";
import { Machines } from "./machines.mjs";
import { acts, copies, save, Take } from "./take.mjs";
import { Tree } from "./tree.mjs";
import { show as showFile } from "./viewer.mjs";

const COMMAND = "uvx copier copy gh:org/torch-uv-template myproj";
const ADVISED = ["platforms", "backend", "torch", "other_backends"];

// The reply for the default answers, and what does not change, prepared when the site was built: the systems and GPUs to
// choose from, and the answers with which a later release of the template renders the same
const { systems, named: NAMED, ...first } = await (await fetch(document.body.dataset.first)).json();

let given = {}; // what the visitor has answered, or the machines have
let advised = []; // the names of those that the machines have
let reply = first; // the last one with files
let rendered = {}; // what was given for it
let before; // the files of the one before, to mark what has changed
let path = "pyproject.toml";
let started = false; // Python has replied once
let followed = 0; // links: only the last one counts
let linked = false; // what is rendered next is of a link
let waiting = false;
let busy = false;

const form = new Form(byId("questions"), answer);
const machines = new Machines(systems, paste, (all) => advise(all).catch(failed));
const take = new Take();
const tree = new Tree(byId("tree"), choose);

// -- What is shown ---------------------------------------------------------------------------------

function show(next, answers, isLink) {
  form.show(next.form, next.refused, isLink);
  machines.compare(next.form);
  byId("stale").hidden = Boolean(next.files);
  if (!next.files) return;
  before = isLink ? undefined : reply.files; // what a link changes is no news
  reply = next;
  rendered = answers;
  take.show(reply);
  showFiles();
}

function showFiles() {
  const marks = before ? changes(before, reply.files) : new Map();
  if (!(path in reply.files) && !marks.has(path)) path = "pyproject.toml";
  tree.show([...new Set([...Object.keys(reply.files), ...marks.keys()])], marks, path);
  say(byId("path"), path);
  byId("copy-torch").hidden = path !== "pyproject.toml";
  byId("copy-file").hidden = !reply.files[path]?.text;
  showFile(byId("code"), path, reply.files[path], marks.has(path) ? (before[path]?.text ?? "") : undefined);
  say(byId("status"), summary(marks));
}

function summary(marks) {
  const count = (kind) => [...marks.values()].filter((each) => each === kind).length;
  const parts = ["new", "changed", "gone"].filter(count).map((kind) => `${count(kind)} ${kind}`);
  return `${Object.keys(reply.files).length} files${parts.length ? `. The last answer: ${parts.join(", ")}` : ""}`;
}

function choose(chosen) {
  path = chosen;
  showFiles();
}

/** Say why nothing can be rendered here, and what works. */
function trouble(text) {
  say(byId("trouble"), `${text} The command line asks the same questions: ${COMMAND}`);
}

function failed({ message }) {
  byId("result").setAttribute("aria-busy", "false");
  if (!started) {
    showFiles();
    say(byId("advice"), "");
  }
  trouble(`Python does not work in this page: ${message}. Reload the page to try again.`);
}

// -- What the engine is asked ----------------------------------------------------------------------

/** Take an answer of the visitor. Without one, the default counts again. */
function answer(name, value) {
  if (value === undefined) delete given[name];
  else given[name] = value;
  advised = advised.filter((each) => each !== name);
  render();
}

/** Render the answers. Of those that come while the engine is busy, only the last are rendered. */
async function render() {
  const fragment = write(given);
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname);
  if (fragment) starting(byId("status"));
  waiting = true;
  if (busy) return;
  busy = true;
  byId("result").setAttribute("aria-busy", "true");
  try {
    while (waiting) {
      waiting = false;
      const [answers, isLink] = [{ ...given }, linked]; // the visitor may change them meanwhile
      linked = false;
      show(await ask({ type: "render", answers }), answers, isLink);
    }
    started = true;
    say(byId("trouble"), "");
  } catch (problem) {
    failed(problem);
  }
  byId("result").setAttribute("aria-busy", "false");
  busy = false;
}

function starting(element) {
  if (!started) say(element, "Python is starting…");
}

/** Follow the answers of the address, and say which of them do not count, and what counts instead. */
async function follow() {
  const link = ++followed;
  const { answers, problems } = read(location.hash, first.form);
  let next = first;
  given = {};
  advised = []; // what a link answers stays when a machine is removed
  if (Object.keys(answers).length) {
    starting(byId("status"));
    next = await ask({ type: "render", answers }).catch(() => first); // render says what is wrong
    if (link !== followed) return;
  }
  const possible = Object.fromEntries(Object.entries(answers).filter(([name]) => !(name in next.refused)));
  given = { ...possible, ...given };
  say(byId("from-link"), [...problems, ...replaced(answers, next)].join("\n"));
  linked = true;
  await render();
}

async function paste(text) {
  return ask({ type: "advise", text });
}

/** Let the doctor answer for the machines. */
async function advise(chosen) {
  byId("result").setAttribute("aria-busy", "true");
  starting(byId("advice"));
  const advice = chosen.length ? await ask({ type: "advise", machines: chosen }) : { answers: {}, reasons: [] };
  if (chosen !== machines.all) return; // others have been chosen meanwhile
  for (const name of advised) delete given[name];
  advised = advice.answers.platforms?.length ? ADVISED : [];
  for (const name of advised) given[name] = advice.answers[name];
  machines.show(advice);
  render();
}

// -- What is taken along ---------------------------------------------------------------------------

copies("copy-file", () => reply.files[path].text);
copies("copy-link", () => {
  const named = reply.form.filter(({ name }) => NAMED.includes(name) || name in rendered);
  const answers = Object.fromEntries(named.map(({ name, value }) => [name, value]));
  return `${location.origin}${location.pathname}#${write(answers)}`;
});
acts("zip", "Downloaded", async () => {
  const { zip } = await ask({ type: "zip", answers: rendered });
  save(zip, `${reply.form[0].value}.zip`);
});
for (const button of document.querySelectorAll("[data-jump]")) {
  button.addEventListener("click", () => {
    byId("result").scrollIntoView();
    byId("result").focus({ preventScroll: true });
  });
}
window.addEventListener("hashchange", follow);

// -- The start: what was prepared is there at once, the engine follows -----------------------------

form.show(first.form, first.refused);
take.show(first);
showFiles();
byId("late").remove();
document.body.classList.add("ready");
if (typeof WebAssembly === "object") {
  begin();
  await (location.hash ? follow() : render());
  keepOffline();
} else {
  trouble("Without WebAssembly, which this browser lacks, the page shows the default project alone.");
  for (const id of ["add", "paste", "questions", "zip"]) byId(id).inert = true;
  byId("result").setAttribute("aria-busy", "false");
}
