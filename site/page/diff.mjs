const LARGEST = 4_000_000; // cells of the table below: more lines than that count as replaced

/** Return what happened to each file: path -> "new", "changed" or "gone". */
export function changes(before, after) {
  const found = new Map();
  for (const [path, file] of Object.entries(after)) {
    if (!(path in before)) found.set(path, "new");
    else if (before[path].text !== file.text || before[path].base64 !== file.base64) found.set(path, "changed");
  }
  for (const path of Object.keys(before)) {
    if (!(path in after)) found.set(path, "gone");
  }
  return found;
}

/**
 * Compare two lists of lines.
 *
 * @returns [sign, index] for each line: " " or "+" with the index in `after`, "-" with the index in `before`.
 */
export function compare(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  const rest = Math.min(before.length, after.length) - start;
  while (end < rest && before.at(-1 - end) === after.at(-1 - end)) end++;
  const same = (from, to) => Array.from({ length: to - from }, (_, index) => [" ", from + index]);
  return [
    ...same(0, start),
    ...middle(before.slice(start, before.length - end), after.slice(start, after.length - end)).map(
      ([sign, index]) => [sign, index + start],
    ),
    ...same(after.length - end, after.length),
  ];
}

/** Compare by the longest common subsequence. */
function middle(before, after) {
  const [rows, columns] = [before.length + 1, after.length + 1];
  if (rows * columns > LARGEST) return [...before.map((_, i) => ["-", i]), ...after.map((_, i) => ["+", i])];
  const common = new Uint16Array(rows * columns); // of before[i:] and after[j:]
  const at = (i, j) => common[i * columns + j];
  for (let i = rows - 2; i >= 0; i--) {
    for (let j = columns - 2; j >= 0; j--) {
      common[i * columns + j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines = [];
  for (let i = 0, j = 0; i < before.length || j < after.length; ) {
    if (before[i] === after[j] && i < before.length && j < after.length) {
      lines.push([" ", j++]);
      i++;
    } else if (i < before.length && (j === after.length || at(i + 1, j) >= at(i, j + 1))) lines.push(["-", i++]);
    else lines.push(["+", j++]);
  }
  return lines;
}
