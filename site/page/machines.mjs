import { byId, make, say } from "./dom.mjs";

const NO_GPU = { vendor: "", target: "", name: "" };

/** "What do you have?": the machines that a visitor chooses by name or pastes. */
export class Machines {
  all = [];
  advised = {}; // the answers that fit them

  /**
   * @param systems What can be chosen, as the build prepared it from builds.yml.
   * @param read Returns the machines that a pasted text tells of, and what is wrong with it.
   * @param onChange Is told all machines, after each change.
   */
  constructor(systems, read, onChange) {
    this.systems = systems;
    this.read = read;
    this.onChange = onChange;
    options(byId("system"), systems.map(({ name }) => name));
    byId("system").selectedIndex = Math.max(0, systems.findIndex(({ system }) => system === visitorSystem()));
    byId("system").addEventListener("change", () => this.#offer());
    byId("gpu").addEventListener("change", () => this.#offerDriver());
    byId("add").addEventListener("submit", (event) => this.#add(event));
    byId("paste").addEventListener("submit", (event) => this.#paste(event));
    this.#offer();
  }

  /** Show what each machine computes on and why, and how much it downloads. `compare` then says what that means for the answers. */
  show({ answers, reasons, hints, downloads }) {
    this.advised = answers;
    const rows = byId("machines").querySelectorAll(".reason");
    reasons.forEach((reason, index) => say(rows[index], [reason, hints[index], downloads[index]].filter(Boolean).join("; ")));
    if (!answers.platforms?.length) say(byId("advice"), ""); // each machine says why
  }

  /** Say what is advised for all machines, and whether the questions are answered like that. */
  compare(form) {
    const { platforms, backend, torch, other_backends = [] } = this.advised;
    if (!platforms?.length) return;
    const build = `${[backend, ...other_backends].join(" and ")} and torch ${torch}`;
    const answers = Object.fromEntries(form.map(({ name, value }) => [name, [].concat(value).toSorted().join()]));
    const isTaken = Object.entries({ platforms, backend, torch, other_backends }).every(
      ([name, value]) => (answers[name] ?? "") === [].concat(value).toSorted().join(),
    );
    say(byId("advice"), isTaken ? `The answers below are set to ${build}.` : `The advice for these machines is ${build}. The answers below differ.`);
  }

  get #system() {
    return this.systems[byId("system").selectedIndex];
  }

  get #gpu() {
    return this.#system.gpus[byId("gpu").value] ?? NO_GPU;
  }

  #offer() {
    const { gpus, macos } = this.#system;
    byId("gpu").replaceChildren(...grouped(gpus), make("option", { value: "" }, "No GPU"));
    byId("gpu-field").hidden = !gpus.length;
    byId("macos-field").hidden = !macos.length;
    options(byId("macos"), levels(macos.map((version) => parseInt(version))));
    this.#offerDriver();
  }

  #offerDriver() {
    const drivers = this.#gpu.vendor === "nvidia" ? this.#system.drivers : [];
    byId("driver-field").hidden = !drivers.length;
    options(byId("driver"), levels(drivers.map(({ oldest }) => parseInt(oldest) || 0)));
  }

  #add(event) {
    event.preventDefault();
    const { system, machine, macos, drivers } = this.#system;
    const gpus = this.#gpu.vendor ? [this.#gpu] : [];
    const isNvidia = this.#gpu.vendor === "nvidia";
    const cuda = (isNvidia && drivers[byId("driver").selectedIndex]?.cuda) || "";
    this.#append([{ system, machine, gpus, cuda, macos: macos[byId("macos").selectedIndex] ?? "" }]);
  }

  async #paste(event) {
    event.preventDefault();
    say(byId("paste-problem"), "");
    const unread = ({ message }) => ({ machines: [], problems: [message] });
    const { machines, problems } = await this.read(byId("text").value).catch(unread);
    const nothing = machines.length ? "" : "This names no machine: paste all that nvidia-smi prints.";
    say(byId("paste-problem"), problems.join(" ") || nothing);
    if (machines.length) {
      byId("text").value = "";
      this.#append(machines, true);
    } else byId("text").focus();
  }

  #append(machines, pasted) {
    byId("machines").append(...machines.map((machine) => this.#row(machine, pasted)));
    this.#change([...this.all, ...machines]);
  }

  #change(all) {
    this.all = all;
    this.onChange(all);
  }

  #row(machine, pasted) {
    const gpus = machine.gpus.map((gpu) => gpu.name || gpu.vendor).join(", ");
    const name = gpus || (machine.system === "darwin" ? "Mac" : "No GPU");
    const remove = make("button", { className: "link", type: "button", ariaLabel: `Remove ${name}` }, "Remove");
    const system = pasted ? this.#choice(machine, name) : make("span", { className: "hint" }, this.#system.name);
    const row = make("li", {}, make("b", {}, name), system, remove, make("p", { className: "reason" }));
    remove.addEventListener("click", () => {
      row.remove();
      byId("system").focus();
      this.#change(this.all.filter((each) => each !== machine));
    });
    return row;
  }

  /** Let the visitor say which system a pasted text is from: it only gives hints. */
  #choice(machine, name) {
    const select = make("select", { ariaLabel: `System of ${name}` });
    options(select, this.systems.map((each) => each.name));
    select.selectedIndex = this.systems.findIndex((each) => each.system === machine.system && each.machine === machine.machine);
    select.addEventListener("change", () => {
      const { system, machine: kind } = this.systems[select.selectedIndex];
      Object.assign(machine, { system, machine: kind });
      this.#change([...this.all]);
    });
    return select;
  }
}

/** Return how Python spells the system of the visitor. */
export function visitorSystem() {
  const name = navigator.userAgentData?.platform ?? navigator.platform;
  return /^win/i.test(name) ? "win32" : /^mac/i.test(name) ? "darwin" : "linux";
}

function options(select, texts) {
  select.replaceChildren(...texts.map((text) => make("option", {}, text)));
}

/** Say of descending numbers from where to where each goes: "580 or newer", "525 to 579", "older than 525". */
function levels(numbers) {
  return numbers.map((number, index) => {
    if (!index) return `${number} or newer`;
    return number ? `${number} to ${numbers[index - 1] - 1}` : `older than ${numbers[index - 1]}`;
  });
}

/** Return the GPUs as options, by vendor. The value of each is its index. */
function grouped(gpus) {
  return Object.entries({ nvidia: "NVIDIA", amd: "AMD", intel: "Intel" }).flatMap(([vendor, label]) => {
    const own = gpus.flatMap((gpu, value) => (gpu.vendor === vendor ? [make("option", { value }, gpu.name)] : []));
    return own.length ? [make("optgroup", { label }, ...own)] : [];
  });
}
