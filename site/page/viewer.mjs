import { tokenize } from "./highlight/index.js";
import { compare } from "./diff.mjs";
import { make } from "./dom.mjs";

const ABOVE = 100; // pixels that are shown before the first change
const LANGUAGES = {
  py: "py", toml: "toml", yaml: "yaml", yml: "yaml", json: "json", md: "md", sh: "bash", sbatch: "bash", Dockerfile: "docker",
};

const ELEMENTS = { " ": "span", "+": "ins", "-": "del" };
let last; // what was asked for last: languages load meanwhile

/** Show a file, and mark the lines that came and those that went since it was another text. */
export async function show(code, path, file, before = file?.text) {
  const text = file?.text ?? "";
  const asked = (last = Symbol(path));
  const [now, then] = await Promise.all([lines(text, path), lines(before ?? "", path)]);
  if (last !== asked) return;
  if (file?.base64) return code.replaceChildren(`A binary file of ${Math.round((file.base64.length * 3) / 4 / 1024)} kB.`);
  const rows = compare((before ?? "").split("\n"), text.split("\n")).map(([sign, index]) =>
    make(ELEMENTS[sign], { className: "line" }, ...(sign === "-" ? then : now)[index]),
  );
  code.replaceChildren(...rows);
  code.closest("pre").scrollTop = Math.max(0, (code.querySelector("ins, del")?.offsetTop ?? 0) - ABOVE);
}

/** Return the lines of a text as nodes, with its language's words marked. */
async function lines(text, path) {
  const found = [[]];
  await tokens(text, path, (part, type) => {
    part.split("\n").forEach((piece, index) => {
      if (index) found.push([]);
      if (piece) found.at(-1).push(type ? make("span", { className: `t-${type}` }, piece) : piece);
    });
  });
  for (const line of found) line.push("\n");
  return found;
}

async function tokens(text, path, onToken) {
  const language = LANGUAGES[path.split("/").at(-1).split(".").at(-1)];
  if (!language) return onToken(text);
  return tokenize(text, language, onToken);
}
