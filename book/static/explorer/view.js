// The Explorer's page: reads the knobs, asks cost.js, writes the figures, draws.
(() => {
  "use strict";

  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const { defaults, limits, choices, presets, budgets, start } = data;
  const $ = (name) => root.querySelector(`[data-part="${name}"]`);
  const knob = (key) => root.querySelector(`[name="${key}"]`);
  const number = (value) => value.toLocaleString("en-US");

  let state; // the arguments of DenseNet, and side, batch, dtype
  let base; // the preset that the address names
  let turned = false; // a knob, since it last came to rest
  let timer;

  // A knob's text, or an address's, as a value. Throws what is wrong with it, in words
  // that begin with the knob's name.
  function read(key, text) {
    const wrong = (what) => new RangeError(`${key}=${text || "(empty)"}: expected ${what}.`);
    if (key === "arch") {
      const parts = text.split(",");
      if (parts.length > limits.blocks[1]) throw wrong(`at most ${limits.blocks[1]} blocks`);
      return parts.map((part) => read("layers", part.trim()));
    }
    if (choices[key]) {
      if (!choices[key].includes(text)) throw wrong(`one of ${choices[key].join(", ")}`);
      if (key === "bottleneck") return text === "none" ? null : Number(text);
      return key === "bias" ? text === "True" : text;
    }
    if (key === "compression") {
      const hundredths = /^[01]?(\.\d{0,2})?$/.test(text);
      if (!hundredths || !(text > 0 && text <= 1)) throw wrong("0 < theta <= 1, in hundredths");
    } else {
      const [low, high] = limits[key];
      const fits = /^\d{1,9}$/.test(text) && text >= low && text <= high;
      if (!fits) throw wrong(`a whole number from ${low} to ${high}`);
    }
    return Number(text);
  }

  // And back; an array with commas.
  const write = (value) => ({ null: "none", true: "True", false: "False" })[value] ?? `${value}`;

  function preset(name) {
    const { side, ...config } = presets[name];
    return { ...defaults, ...config, side, batch: start.batch, dtype: start.dtype };
  }

  const same = (a, b, key) => write(a[key]) === write(b[key]);

  // Sets the state; returns what is wrong with the address. Keys that are not ours, of
  // searches, campaigns and translations, are left alone.
  function fromURL() {
    const query = new URLSearchParams(location.search);
    const wrong = [];
    base = query.get("preset")?.trim() ?? start.preset;
    if (!Object.hasOwn(presets, base)) {
      wrong.push(`preset=${base}: expected one of ${Object.keys(presets).join(", ")}.`);
      base = start.preset;
    }
    state = preset(base);
    for (const [key, text] of query) {
      if (!Object.hasOwn(state, key)) continue;
      try {
        state[key] = read(key, text.trim());
      } catch (error) {
        wrong.push(error.message);
      }
    }
    return wrong.join(" ");
  }

  function toURL(method) {
    const origin = preset(base);
    const query = new URLSearchParams();
    if (base !== start.preset) query.set("preset", base);
    for (const key of Object.keys(origin)) {
      if (!same(state, origin, key)) query.set(key, write(state[key]));
    }
    const text = query.toString().replaceAll("%2C", ",");
    try {
      history[method](null, "", `${location.pathname}${text && "?"}${text}`);
    } catch {
      // A page from the disk may not change its address in every browser.
    }
  }

  function python() {
    const literal = (value) => {
      if (Array.isArray(value)) return `(${value.join(", ")}${value.length < 2 ? "," : ""})`;
      if (value === null) return "None";
      return typeof value === "string" ? `"${value}"` : write(value);
    };
    const changed = Object.keys(defaults).filter((key) => !same(state, defaults, key));
    return `DenseNet(${changed.map((key) => `${key}=${literal(state[key])}`).join(", ")})`;
  }

  // Knobs.
  function toKnobs() {
    root.querySelectorAll("[aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
    knob("blocks").value = state.arch.length;
    for (let i = 0; i < limits.blocks[1]; i++) {
      knob(`layers${i + 1}`).closest("label").hidden = i >= state.arch.length;
      knob(`layers${i + 1}`).value = state.arch[i] ?? state.arch.at(-1);
    }
    for (const key of Object.keys(state)) {
      if (key === "arch") continue;
      const input = knob(key);
      if (input.type === "checkbox") input.checked = state[key];
      else input.value = write(state[key]);
    }
    for (const input of root.querySelectorAll("input[type=range]")) {
      input.parentElement.querySelector("output").value = input.value;
    }
    const name = Object.keys(presets).find((one) =>
      ["side", ...Object.keys(defaults)].every(
        (key) => key === "memory" || same(state, preset(one), key),
      ),
    );
    knob("preset").value = name ?? "";
  }

  function fromKnob(input) {
    const key = input.name;
    if (key === "preset") {
      if (!input.value) return;
      const { batch, dtype, memory } = state;
      base = input.value;
      state = { ...preset(base), batch, dtype, memory };
    } else if (key === "blocks" || key.startsWith("layers")) {
      const length = Number(knob("blocks").value);
      state.arch = Array.from({ length }, (_, i) => Number(knob(`layers${i + 1}`).value));
    } else {
      const text = input.type === "checkbox" ? write(input.checked) : input.value;
      state[key] = read(key, text.trim());
    }
  }

  // Figures.
  function put(name, value, text) {
    const cell = $(name);
    cell.dataset.value = value;
    cell.textContent = text;
  }

  function mebibytes(value) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    const unit = Math.max(0, Math.floor(Math.log2(Number(value)) / 10));
    const scaled = Number(value) / 1024 ** unit;
    return `${scaled.toLocaleString("en-US", { maximumSignificantDigits: 4 })} ${units[unit]}`;
  }

  function show(found) {
    const { memory } = found;
    const peak = memory[state.memory];
    put("parameters", found.parameters, number(found.parameters));
    put("macs", found.macs, number(found.macs));
    put("activations", found.activations, mebibytes(found.activations));
    put("peak", peak.total, mebibytes(peak.total));
    $("stage").textContent = peak.stage;
    for (const part of ["parameters", "gradients", "optimizer", "activations", "inputs"]) {
      put(`peak-${part}`, peak[part], mebibytes(peak[part]));
    }
    for (const strategy of DenseNetCost.MEMORY) {
      put(`peak-${strategy}`, memory[strategy].total, mebibytes(memory[strategy].total));
      $(`peak-${strategy}`).closest("tr").classList.toggle("current", strategy === state.memory);
      memory[strategy].largest.forEach((n, i) => put(`largest-${strategy}-${i}`, n, number(n)));
    }
    $("python").textContent = python();
    const spoken =
      `${number(found.parameters)} parameters, ${number(found.macs)} MACs an image, ` +
      `peak ${mebibytes(peak.total)} in ${peak.stage}.`;
    // Said once, when the hand rests.
    timer = setTimeout(() => ($("status").textContent = spoken), 700);
  }

  function complain(message) {
    $("error").textContent = message;
    $("error").hidden = !message;
  }

  // Runs what may find a value wrong: then the last figures stay, and it is said why.
  function attempt(action) {
    clearTimeout(timer);
    try {
      action();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      complain(`${error.message} The figures are those of the last network that works.`);
      knob(error.message.split("=")[0])?.setAttribute("aria-invalid", "true");
    }
  }

  function update(message = "") {
    toKnobs();
    complain(message);
    attempt(() => {
      const { side, batch } = state;
      const bytes = state.dtype === "half" ? 2 : 4;
      const found = DenseNetCost.count(state, { side, batch, bytes, budgets });
      show(found);
      draw(found.layers);
    });
  }

  // The drawing: a bar a layer, as high as its channels; a square a stage, as wide as
  // its images.
  const element = (name, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };

  // The layers that layer i reads, by their places.
  function sources(layers, i) {
    const { stage } = layers[i];
    if (!stage.startsWith("block")) return i ? [i - 1] : [];
    const first = layers.findIndex((layer) => layer.stage === stage) - 1;
    return Array.from({ length: i - first }, (_, j) => first + j);
  }

  function describe(layers, i) {
    const layer = layers[i];
    const [c, h, w] = layer.shape;
    const from = sources(layers, i).map((j) => layers[j].name);
    const inputs = from.length > 2
      ? `${from[0]} and the ${from.length - 1} layers before it`
      : from.join(" and ") || "the image";
    const made = layer.stage.startsWith("block")
      ? `adds ${number(state.growth_rate)}, so ${number(c)} leave it`
      : `${number(c)} leave it`;
    return `${layer.name}: reads ${number(layer.reads)} channels from ${inputs}; ` +
      `${made}, at ${h} × ${w}.`;
  }

  function draw(layers) {
    const svg = $("drawing");
    const width = Math.max(280, svg.parentElement.clientWidth);
    const [top, height, squares] = [72, 130, 56];
    const step = width / layers.length;
    const wide = Math.max(1, Math.min(26, step * 0.75));
    const scale = height / Math.max(...layers.map((layer) => layer.shape[0]));
    const tall = layers.map((layer) => Math.max(2, layer.shape[0] * scale));
    const many = layers.length > 40; // then only the focused one's connections show
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${top + height + squares}`);
    const back = element("g", { class: "connections", "aria-hidden": "true" }, svg);
    const lit = element("g", { class: "lit", "aria-hidden": "true" }, svg);

    function arc(from, to, parent) {
      const [x1, x2] = [from, to].map((i) => i * step + wide / 2);
      const [y1, y2] = [from, to].map((i) => top + height - tall[i]);
      const y = Math.min(y1, y2) - 6 - Math.min(60, (x2 - x1) / 2);
      element("path", { d: `M${x1} ${y1} C${x1} ${y} ${x2} ${y} ${x2} ${y2}` }, parent);
    }

    const bars = layers.map((layer, i) => {
      const dense = layer.stage.startsWith("block");
      const bar = element("g", {
        class: dense ? "layer dense" : "layer", role: "img", tabindex: i ? -1 : 0,
        "aria-label": describe(layers, i), "data-layer": layer.name,
        "data-reads": layer.reads, "data-channels": layer.shape[0],
      }, svg);
      const place = { x: i * step, y: top + height - tall[i], width: wide };
      const own = dense ? Math.max(1, state.growth_rate * scale) : 0;
      element("rect", { class: "target", x: place.x, y: top, width: step, height }, bar);
      element("rect", { class: "read", ...place, height: tall[i] }, bar);
      element("rect", { class: "new", ...place, height: own }, bar);
      return bar;
    });

    function light(i) {
      lit.replaceChildren();
      bars.forEach((bar) => bar.classList.remove("feeds", "chosen"));
      bars[i].classList.add("chosen");
      for (const j of sources(layers, i)) {
        bars[j].classList.add("feeds");
        arc(j, i, lit);
      }
      $("layer").textContent = describe(layers, i);
    }

    bars.forEach((bar, i) => {
      if (!many) sources(layers, i).forEach((j) => arc(j, i, back));
      bar.addEventListener("pointerenter", () => light(i));
      bar.addEventListener("click", () => bar.focus());
      bar.addEventListener("focus", () => {
        bars.forEach((other) => other.setAttribute("tabindex", other === bar ? 0 : -1));
        light(i);
      });
      bar.addEventListener("keydown", (event) => {
        const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: bars.length - 1 }[event.key];
        if (!bars[next]) return;
        event.preventDefault();
        bars[next].focus();
      });
    });

    // Sizes: under the first layer of each stage that changes it.
    const below = element("g", { class: "sizes", "aria-hidden": "true" }, svg);
    let last = 0;
    let free = -1;
    layers.forEach(({ shape: [, side], stage }, i) => {
      if (side === last || stage === "head") return;
      last = side;
      const x = i * step;
      const edge = Math.max(2, (side / layers[0].shape[1]) * 34);
      element("rect", { x, y: top + height + 4, width: edge, height: edge }, below);
      if (x <= free) return;
      element("text", { x, y: top + height + squares - 4 }, below).textContent = `${side}×${side}`;
      free = x + 62;
    });
    $("layer").textContent = "Point at a layer, or move to it with the arrow keys" +
      (many ? ": only its own connections are drawn." : ".");
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText($("python").textContent);
      $("copied").textContent = "copied";
    } catch {
      // From the disk, or refused: select it, so that Ctrl+C does it.
      getSelection().selectAllChildren($("python"));
      $("copied").textContent = "selected: press Ctrl+C";
    }
  }

  function begin() {
    const wrong = fromURL();
    update(wrong && `The address asks for what does not exist. ${wrong} The default stands instead.`);
  }

  root.addEventListener("input", (event) => {
    attempt(() => {
      fromKnob(event.target);
      // Back undoes all that one drag does to a knob.
      toURL(turned ? "replaceState" : "pushState");
      turned = true;
      update();
    });
  });
  root.addEventListener("change", () => (turned = false));
  $("reset").addEventListener("click", () => {
    base = start.preset;
    state = preset(base);
    toURL("pushState");
    update();
  });
  $("copy").addEventListener("click", copy);
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("popstate", begin);
  root.hidden = false;
  state = preset(start.preset); // so that there are figures, whatever the address says
  update();
  begin();
})();
