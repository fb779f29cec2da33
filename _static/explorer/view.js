// The Explorer's page: reads the knobs, asks cost.js, writes the figures, draws.
(() => {
  "use strict";

  const root = document.getElementById("explorer");
  if (!root) return;
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const { defaults, limits, choices, presets, budgets, start } = data;
  const $ = (name) => root.querySelector(`[data-part="${name}"]`);
  const knob = (key) => root.querySelector(`[name="${key}"]`);
  const number = (value) => value.toLocaleString("en-US");
  const MANY = 40; // layers, from which on only the focused one's connections show

  let state; // the arguments of DenseNet, and side, batch, dtype
  let base; // the preset that the URL names
  let timer;
  let focused = null;

  // Reading: a knob's text, or a URL's, as a value. Throws what is wrong with it.
  function whole(key, text, [low, high]) {
    if (!/^\d{1,9}$/.test(text) || Number(text) < low || Number(text) > high) {
      throw new RangeError(
        `${key}=${text || "(empty)"}: expected a whole number from ${low} to ${high}`,
      );
    }
    return Number(text);
  }

  function read(key, text) {
    if (key === "arch") {
      const parts = text.split(",");
      if (parts.length > limits.blocks[1]) {
        throw new RangeError(`arch=${text}: expected at most ${limits.blocks[1]} blocks`);
      }
      return parts.map((part, i) => whole(`arch[${i}]`, part, limits.layers));
    }
    if (key === "compression") {
      const value = Number(text);
      const plain = /^\d(\.\d{0,2})?$|^\.\d{1,2}$/.test(text);
      if (!plain || !(value > 0 && value <= 1)) {
        throw new RangeError(
          `compression=${text}: expected 0 < theta <= 1, in hundredths`,
        );
      }
      return value;
    }
    if (choices[key]) {
      if (!choices[key].includes(text)) {
        throw new RangeError(
          `${key}=${text}: expected one of ${choices[key].join(", ")}`,
        );
      }
      if (key === "bottleneck") return text === "none" ? null : Number(text);
      return key === "bias" ? text === "True" : text;
    }
    return whole(key, text, limits[key]);
  }

  function write(key, value) {
    if (key === "bottleneck" && value === null) return "none";
    if (key === "bias") return value ? "True" : "False";
    return String(value); // an array with commas
  }

  function preset(name) {
    const { side, ...config } = presets[name];
    return { ...defaults, ...config, side, batch: start.batch, dtype: start.dtype };
  }

  const same = (a, b, key) => write(key, a[key]) === write(key, b[key]);

  // What Sphinx's search and the sites that link here add to an address.
  const added = /^(highlight|ref|fbclid|gclid|msclkid|utm_\w+)$/;

  function fromURL() {
    const query = new URLSearchParams(location.search);
    base = query.get("preset") ?? start.preset;
    if (!Object.hasOwn(presets, base)) {
      const names = Object.keys(presets).join(", ");
      throw new RangeError(`preset=${base}: expected one of ${names}`);
    }
    const found = preset(base);
    for (const [key, text] of query) {
      if (key === "preset" || added.test(key)) continue;
      if (!Object.hasOwn(found, key)) {
        const names = Object.keys(found).join(", ");
        throw new RangeError(`${key}: expected one of ${names}`);
      }
      found[key] = read(key, text);
    }
    return found;
  }

  function toURL() {
    const origin = preset(base);
    const query = new URLSearchParams();
    if (base !== start.preset) query.set("preset", base);
    for (const key of Object.keys(origin)) {
      if (!same(state, origin, key)) query.set(key, write(key, state[key]));
    }
    const text = query.toString().replaceAll("%2C", ",");
    try {
      history.replaceState(null, "", `${location.pathname}${text && "?"}${text}`);
    } catch {
      // A page from the disk may not change its address in every browser.
    }
  }

  function python() {
    const parts = [];
    for (const key of Object.keys(defaults)) {
      if (same(state, defaults, key)) continue;
      const value = state[key];
      let text = write(key, value);
      if (Array.isArray(value)) text = `(${value.join(", ")}${value.length < 2 ? "," : ""})`;
      else if (value === null) text = "None";
      else if (typeof value === "string") text = `"${value}"`;
      parts.push(`${key}=${text}`);
    }
    return `DenseNet(${parts.join(", ")})`;
  }

  // Knobs.
  function toKnobs() {
    for (const input of root.querySelectorAll("[aria-invalid]")) {
      input.removeAttribute("aria-invalid");
    }
    knob("blocks").value = state.arch.length;
    for (let i = 0; i < limits.blocks[1]; i++) {
      const input = knob(`layers${i + 1}`);
      const used = i < state.arch.length;
      input.closest("label").hidden = !used;
      if (used) input.value = state.arch[i];
    }
    for (const key of Object.keys(state)) {
      if (key === "arch") continue;
      const input = knob(key);
      if (input.type === "checkbox") input.checked = state[key];
      else input.value = write(key, state[key]);
    }
    echo();
  }

  function echo() {
    for (const input of root.querySelectorAll("input[type=range]")) {
      input.parentElement.querySelector("output").value = input.value;
    }
    const name = Object.keys(presets).find((one) =>
      Object.keys(defaults).every((key) => key === "memory" || same(state, preset(one), key)) &&
      presets[one].side === state.side,
    );
    knob("preset").value = name ?? "";
  }

  function fromKnob(input) {
    const key = input.name;
    input.removeAttribute("aria-invalid");
    if (key === "preset") {
      if (!input.value) return;
      const { batch, dtype, memory } = state;
      base = input.value;
      state = { ...preset(base), batch, dtype, memory };
    } else if (key === "blocks") {
      const last = state.arch[state.arch.length - 1];
      state.arch = Array.from({ length: Number(input.value) }, (_, i) => state.arch[i] ?? last);
    } else if (key.startsWith("layers")) {
      state.arch = state.arch.with(Number(key.slice(6)) - 1, read("arch", input.value)[0]);
    } else if (input.type === "checkbox") {
      state[key] = input.checked;
    } else {
      try {
        state[key] = read(key, input.value.trim());
      } catch (error) {
        input.setAttribute("aria-invalid", "true");
        throw error;
      }
      // What another field holds is not what is shown: set it back.
      if (root.querySelector("[aria-invalid]")) toKnobs();
      return echo();
    }
    toKnobs();
  }

  // Figures.
  function put(name, value, text) {
    const cell = $(name);
    cell.dataset.value = value;
    cell.textContent = text;
  }

  function mebibytes(value) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    let scaled = Number(value);
    while (scaled >= 1024 && unit < 5) {
      scaled /= 1024;
      unit += 1;
    }
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
      memory[strategy].largest.forEach((n, i) => {
        put(`largest-${strategy}-${i}`, n, number(n));
      });
    }
    $("python").textContent = python();
    return (
      `${number(found.parameters)} parameters, ${number(found.macs)} MACs an image, ` +
      `peak ${mebibytes(peak.total)} in ${peak.stage}.`
    );
  }

  function fail(error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
    $("results").hidden = true;
  }

  function update(message) {
    clearTimeout(timer);
    let spoken;
    try {
      const { side, batch } = state;
      const bytes = state.dtype === "half" ? 2 : 4;
      const found = DenseNetCost.count(state, { side, batch, bytes, budgets });
      $("results").hidden = false;
      $("error").hidden = !message;
      $("error").textContent = message ?? "";
      spoken = show(found);
      draw(found.layers);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      fail(error);
    }
    // Said once, when the hand rests.
    if (spoken) timer = setTimeout(() => { $("status").textContent = spoken; }, 700);
  }

  // The drawing: a bar a layer, as high as its channels; a square a stage, as
  // wide as its images.
  const element = (name, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  };

  function sources(drawn, i) {
    const { stage } = drawn[i].layer;
    if (!stage.startsWith("block")) return i ? [i - 1] : [];
    let first = i;
    while (drawn[first].layer.stage === stage) first -= 1;
    return Array.from({ length: i - first }, (_, j) => first + j);
  }

  function arc(drawn, from, to, parent) {
    const [a, b] = [drawn[from], drawn[to]];
    const x = [a.x + a.width / 2, b.x + b.width / 2];
    const y = Math.min(a.y, b.y) - 6 - Math.min(60, (x[1] - x[0]) / 2);
    element("path", { d: `M${x[0]} ${a.y} C${x[0]} ${y} ${x[1]} ${y} ${x[1]} ${b.y}` }, parent);
  }

  function describe(drawn, i) {
    const { layer } = drawn[i];
    const [c, h, w] = layer.shape;
    const from = sources(drawn, i).map((j) => drawn[j].layer.name);
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
    const had = svg.contains(document.activeElement) ? focused : null;
    const width = Math.max(280, svg.parentElement.clientWidth);
    const [top, height, squares] = [72, 130, 56];
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${top + height + squares}`);
    const highest = Math.max(...layers.map((layer) => layer.shape[0]));
    const step = width / layers.length;
    const drawn = layers.map((layer, i) => {
      const tall = Math.max(2, (layer.shape[0] / highest) * height);
      return { layer, x: i * step, width: Math.max(1, Math.min(26, step * 0.75)), y: top + height - tall, tall };
    });
    const many = layers.length > MANY;
    const back = element("g", { class: "connections", "aria-hidden": "true" }, svg);
    drawn.forEach((_, i) => {
      if (!many) sources(drawn, i).forEach((j) => arc(drawn, j, i, back));
    });
    const lit = element("g", { class: "lit", "aria-hidden": "true" }, svg);
    drawn.forEach((item, i) => {
      const { layer } = item;
      const dense = layer.stage.startsWith("block");
      const bar = element("g", {
        class: dense ? "layer dense" : "layer", role: "img", tabindex: -1,
        "aria-label": describe(drawn, i), "data-layer": layer.name,
        "data-reads": layer.reads, "data-channels": layer.shape[0],
      }, svg);
      const place = { x: item.x, width: item.width };
      element("rect", { ...place, class: "target", x: item.x, width: step, y: top, height }, bar);
      element("rect", { ...place, class: "read", y: item.y, height: item.tall }, bar);
      if (dense) {
        const own = Math.max(1, (state.growth_rate / highest) * height);
        element("rect", { ...place, class: "new", y: item.y, height: own }, bar);
      }
      const light = () => {
        lit.replaceChildren();
        svg.querySelectorAll(".feeds, .chosen").forEach((e) => e.classList.remove("feeds", "chosen"));
        item.bar.classList.add("chosen");
        for (const j of sources(drawn, i)) {
          drawn[j].bar.classList.add("feeds");
          arc(drawn, j, i, lit);
        }
        $("layer").textContent = describe(drawn, i);
      };
      bar.addEventListener("pointerenter", light);
      bar.addEventListener("focus", () => {
        drawn.forEach(({ bar: other }) => other.setAttribute("tabindex", -1));
        bar.setAttribute("tabindex", 0);
        focused = layer.name;
        light();
      });
      bar.addEventListener("click", () => bar.focus());
      bar.addEventListener("keydown", (event) => {
        const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: drawn.length - 1 }[event.key];
        if (drawn[next]) {
          event.preventDefault();
          drawn[next].bar.focus();
        }
      });
      item.bar = bar;
    });
    drawn[0].bar.setAttribute("tabindex", 0);
    // Sizes: under the first layer of each stage that changes it.
    const below = element("g", { class: "sizes", "aria-hidden": "true" }, svg);
    let last = 0;
    let free = -1;
    drawn.forEach(({ layer, x }) => {
      const side = layer.shape[1];
      if (side === last || layer.stage === "head") return;
      last = side;
      const wide = Math.max(2, (side / layers[0].shape[1]) * 34);
      element("rect", { x, y: top + height + 4, width: wide, height: wide }, below);
      if (x > free) {
        element("text", { x, y: top + height + squares - 4 }, below).textContent = `${side}×${side}`;
        free = x + 62;
      }
    });
    $("layer").textContent = many
      ? "Point at a layer, or move to it with the arrow keys: only its own connections are drawn."
      : "Point at a layer, or move to it with the arrow keys.";
    if (had) (drawn.find(({ layer }) => layer.name === had) ?? drawn[0]).bar.focus();
  }

  async function copy() {
    const text = $("python").textContent;
    try {
      await navigator.clipboard.writeText(text);
      $("copied").textContent = "copied";
    } catch {
      // From the disk, or refused: select it, so that Ctrl+C does it.
      getSelection().selectAllChildren($("python"));
      $("copied").textContent = "selected: press Ctrl+C";
    }
  }

  function begin() {
    let message;
    try {
      state = fromURL();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      message = `The address asks for what does not exist, so these are the defaults. ${error.message}`;
      base = start.preset;
      state = preset(base);
    }
    toKnobs();
    update(message);
  }

  root.addEventListener("input", (event) => {
    if (!event.target.name) return;
    try {
      fromKnob(event.target);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      fail(error);
      return;
    }
    toURL();
    update();
  });
  $("reset").addEventListener("click", () => {
    root.querySelectorAll("[aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
    base = start.preset;
    state = preset(base);
    toKnobs();
    toURL();
    update();
  });
  $("copy").addEventListener("click", copy);
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  let wide;
  root.hidden = false;
  begin();
  new ResizeObserver(() => {
    if (wide !== undefined && wide !== root.clientWidth) update();
    wide = root.clientWidth;
  }).observe(root);
})();
