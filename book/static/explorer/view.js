// The Explorer's page. The knobs and the address say which network; cost.js counts it;
// the figures show it, and draw.js draws it.
(() => {
  "use strict";

  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const { defaults, limits, choices, presets, resnets, comparisons, budgets, start } = data;
  const { KINDS, short, sources } = DenseNetPicture;
  const $ = (name) => root.querySelector(`[data-part="${name}"]`);
  const knob = (key) => root.querySelector(`[name="${key}"]`);
  const whole = new Intl.NumberFormat("en-US");
  const [two, three] = [2, 3].map((maximumSignificantDigits) =>
    new Intl.NumberFormat("en-US", { maximumSignificantDigits }));

  let base; // the preset that the address begins from
  let state; // what the knobs say: arguments of DenseNet, and side, batch, dtype, bars
  let shown; // the last state that there is a network for, counted
  let baseline; // what it is compared with, counted, or null
  let picture; // of the layers: finds them and lights them
  let chosen; // name of the layer that is lit
  let turned = false; // a knob, since it last came to rest
  let timer;

  // Values and texts.

  const label = (key) => ({ arch: "layers", bars: "bars" })[key] ??
    knob(key).closest("label").querySelector("span").textContent;

  // What is wrong with a knob's value, in words that begin with the knob's name.
  const refuse = (key, what) => Object.assign(new RangeError(`${label(key)}: ${what}`), { key });

  const find = (names, text) => names.find((name) => name.toLowerCase() === text.toLowerCase());

  // A knob's text, or an address's, as a value.
  function read(key, text) {
    if (key === "arch") {
      const parts = text.split(/[\s,;()[\]]+/).filter((part) => part);
      readNumber("blocks", `${parts.length}`);
      return parts.map((part, i) => readNumber(`layers${i + 1}`, part));
    }
    if (!choices[key]) return readNumber(key, text);
    const found = find(choices[key], { true: "yes", false: "no" }[text.toLowerCase()] ?? text);
    if (!found) throw refuse(key, `“${text}” is none of ${choices[key].join(", ")}.`);
    if (key === "bottleneck") return found === "none" ? null : Number(found);
    return key === "bias" ? found === "yes" : found;
  }

  function readNumber(key, text) {
    const scale = key === "compression" ? 100 : 1; // it comes in hundredths, all else whole
    const [low, high] = scale > 1 ? [0.01, 1] : limits[key.replace(/\d/, "")];
    const range = `a ${scale > 1 ? "" : "whole "}number from ${low} to ${whole.format(high)}` +
      (scale > 1 ? " in hundredths" : "");
    if (text === "") throw refuse(key, `there is no number; it takes ${range}.`);
    const value = Number(text);
    const steps = Math.round(value * scale);
    const off = (by) => whole.format(Math.round(by * scale) / scale);
    if (value < low) throw refuse(key, `${text} is too small by ${off(low - value)}; it takes ${range}.`);
    if (value > high) throw refuse(key, `${text} is too large by ${off(value - high)}; it takes ${range}.`);
    if (!(Math.abs(value * scale - steps) < 1e-9)) throw refuse(key, `“${text}” is not ${range}.`);
    return steps / scale;
  }

  // And back; an array with commas. To people, yes and no.
  const write = (value) => ({ null: "none", true: "True", false: "False" })[value] ?? `${value}`;
  const say = (value) => ({ true: "yes", false: "no" })[value] ?? write(value);
  const same = (a, b, key) => write(a[key]) === write(b[key]);

  // What no single knob is to blame for.
  function impossible(net) {
    const side = DenseNetCost.smallestSide(net);
    if (net.side < side) {
      return refuse("side", `${net.side} is too small by ${side - net.side}: ` +
        `${net.arch.length} dense blocks halve the image so often that it needs ${side}.`);
    }
    const compression = DenseNetCost.smallestCompression(net);
    if (net.compression >= compression) return null;
    const by = whole.format(compression - net.compression);
    return refuse("compression", `${net.compression} is too small by ${by}: ` +
      `it leaves a transition no channel; the smallest here is ${compression}.`);
  }

  // The address.

  function preset(name) {
    const { side, ...config } = presets[name];
    return { ...defaults, ...config, side, ...start };
  }

  // An address's text as {base, state, baseline (its text), wrong}. Keys that are not
  // ours, of campaigns and translations, are left alone; so are spaces, capitals, and
  // what was encoded twice on its way.
  function parse(text) {
    const query = new Map();
    for (const [key, value] of new URLSearchParams(text)) {
      const plain = value.replace(/%[0-7][0-9a-f]/gi, decodeURIComponent);
      query.set(key.trim().toLowerCase().replace(/^amp;/, ""), plain.trim());
    }
    const wrong = [];
    const [wanted, names] = [query.get("preset") ?? data.chapter, Object.keys(presets)];
    const known = find(names, wanted);
    if (!known) wrong.push(refuse("preset", `“${wanted}” is none of ${names.join(", ")}.`));
    const found = { base: known ?? data.chapter, baseline: query.get("baseline") ?? null, wrong };
    found.state = preset(found.base);
    for (const key of Object.keys(found.state)) {
      if (!query.has(key)) continue;
      try {
        found.state[key] = read(key, query.get(key));
      } catch (error) {
        wrong.push(error);
      }
    }
    return found;
  }

  // And back.
  function address({ base, state, baseline }) {
    const origin = preset(base);
    const query = new URLSearchParams();
    if (base !== data.chapter) query.set("preset", base);
    for (const key of Object.keys(origin)) {
      if (!same(state, origin, key)) query.set(key, write(state[key]));
    }
    if (baseline) query.set("baseline", baseline.text);
    return query.toString().replaceAll("%2C", ",");
  }

  function toURL(method) {
    const query = address({ base, state, baseline });
    try {
      history[method](null, "", `${location.pathname}${query && "?"}${query}`);
    } catch { /* a page from the disk may not change its address in every browser */ }
  }

  // Counting.

  // A state with all that is shown of it; `figures` has every number by its name.
  function count(state) {
    const bytes = state.dtype === "half" ? 2 : 4;
    const found = DenseNetCost.count(state, { ...state, bytes, budgets });
    const { parameters, macs, activations, memory } = found;
    const figures = { channels: found.layers.at(-1).reads, parameters, macs, activations };
    figures.peak = memory[state.memory].total;
    for (const [name, peak] of Object.entries(memory)) {
      for (const kind of KINDS) figures[`${name}-${kind}`] = peak[kind];
      figures[`${name}-peak`] = peak.total;
      peak.largest.forEach((batch, i) => (figures[`${name}-largest-${i}`] = batch));
    }
    return { ...found, state, figures };
  }

  // A baseline, by its text in the address: the name of a preset or of a ResNet, or an
  // address of its own.
  function pinned(text, wrong) {
    if (text === null) return null;
    const resnet = find(Object.keys(resnets), text);
    if (resnet) {
      const [side, parameters, macs, kept] = resnets[resnet];
      const figures = { parameters, macs, activations: kept * start.batch };
      return { text: resnet, name: `${resnet}, pixels a side: ${side}`, figures };
    }
    const known = find(Object.keys(presets), text);
    const found = parse(known ? `preset=${known}` : text);
    const problem = found.wrong[0] ?? impossible(found.state);
    if (!problem) return { text, name: words(found), ...count(found.state) };
    wrong.push(new RangeError(`The baseline's ${problem.message}`));
    return null;
  }

  const now = () => ({ base, state: shown.state });

  // A configuration in words: its preset, and what was turned since.
  function words({ base, state }) {
    const origin = preset(base);
    const changed = Object.keys(origin).filter((key) => key !== "bars" && !same(state, origin, key));
    return [base, ...changed.map((key) => `${label(key)}: ${say(state[key])}`)].join("; ");
  }

  function literal(value) {
    if (Array.isArray(value)) return `(${value.join(", ")}${value.length < 2 ? "," : ""})`;
    if (value === null) return "None";
    return typeof value === "string" ? `"${value}"` : write(value);
  }

  function codes(state) {
    const changed = Object.keys(defaults).filter((key) => !same(state, defaults, key));
    const config = changed.map((key) => `${key}=${literal(state[key])}`).join(", ");
    const shape = literal([state.batch, state.in_channels, state.side, state.side]);
    const bytes = state.dtype === "half" ? ", bytes_per_element=2" : "";
    return [`DenseNet(${config})`, `cost.summary(dict(${config}), ${shape}${bytes})`];
  }

  // Knobs.

  function toKnobs() {
    root.querySelectorAll("[aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
    const values = { ...state, blocks: state.arch.length };
    for (let i = 0; i < limits.blocks[1]; i++) {
      knob(`layers${i + 1}`).closest("label").hidden = i >= state.arch.length;
      values[`layers${i + 1}`] = state.arch[i] ?? state.arch.at(-1);
    }
    delete values.arch;
    for (const [key, value] of Object.entries(values)) {
      const input = knob(key);
      if (input.type === "checkbox") input.checked = value;
      else if (input.type === "radio") root.querySelector(`[value="${value}"]`).checked = true;
      else input.value = write(value);
      if (input.type === "range") input.parentElement.querySelector("output").value = write(value);
    }
    const here = address({ base, state: { ...state, bars: start.bars }, baseline });
    const comparison = Object.keys(comparisons).find((name) => {
      const { base, state, baseline } = parse(comparisons[name][0]);
      return here === address({ base, state: { ...state, bars: start.bars }, baseline: { text: baseline } });
    });
    $("why").textContent = comparison ? comparisons[comparison][1] : "";
    const named = ["side", ...Object.keys(defaults)].filter((key) => key !== "memory");
    const name = Object.keys(presets).find((one) => named.every((key) => same(state, preset(one), key)));
    knob("preset").value = comparison ?? name ?? "";
  }

  function fromKnob(input) {
    const key = input.name;
    if (key === "preset" && comparisons[input.value]) {
      load(comparisons[input.value][0]);
    } else if (key === "preset") {
      if (!input.value) return;
      const { batch, dtype, memory, bars } = state;
      base = input.value;
      state = { ...preset(base), batch, dtype, memory, bars };
    } else if (key === "blocks" || key.startsWith("layers")) {
      const length = Number(knob("blocks").value);
      const arch = Array.from({ length }, (_, i) => Number(knob(`layers${i + 1}`).value));
      state = { ...state, arch };
    } else {
      const text = input.type === "checkbox" ? write(input.checked) : input.value;
      state = { ...state, [key]: read(key, text.trim()) };
    }
  }

  // Figures.

  const unit = (name) => (/^(channels|parameters|macs)$|largest/.test(name) ? "" : "B");

  // How a figure differs from the baseline's.
  function difference(name) {
    const [value, old] = [shown.figures[name], baseline?.figures[name]];
    if (old === undefined) return "";
    if (BigInt(value) === BigInt(old)) return "±0 ×1";
    const by = Number(value) - Number(old);
    const ratio = Number(old) ? ` ×${three.format(Number(value) / Number(old))}` : "";
    return `${by < 0 ? "−" : "+"}${short(Math.abs(by), unit(name))}${ratio}`;
  }

  function show() {
    for (const [name, value] of Object.entries(shown.figures)) {
      const cell = $(name);
      cell.dataset.value = value;
      cell.textContent = name.includes("largest") ? whole.format(value) : short(value, unit(name));
      root.querySelector(`[data-than="${name}"]`).textContent = difference(name);
    }
    for (const [name, { stage }] of Object.entries(shown.memory)) {
      $(`${name}-stage`).textContent = plainName(stage);
    }
    for (const cell of root.querySelectorAll("[data-exact]")) {
      const name = cell.dataset.exact;
      cell.textContent = whole.format(shown.figures[name]) + unit(name).replace("B", " B");
    }
    $("compared").textContent = baseline
      ? `Now: ${words(now())}. Baseline${baseline.layers ? " (outlined)" : ""}: ${baseline.name}.` : "";
    $("forget").disabled = !baseline;
    [$("python").textContent, $("call").textContent] = codes(shown.state);
    const { parameters, macs, peak } = shown.figures;
    const spoken = `${whole.format(parameters)} parameters, ${whole.format(macs)} MACs an image, ` +
      `peak ${short(peak, "B")}.`;
    clearTimeout(timer); // said once, when the hand rests
    timer = setTimeout(() => ($("status").textContent = spoken), 700);
    draw();
  }

  // Asked for at every turn, the sizes would cost more than all else.
  function measure() {
    for (const svg of [$("drawing"), $("peaks")]) svg.size = [svg.clientWidth, svg.clientHeight];
  }

  function draw() {
    picture = DenseNetPicture.bars($("drawing"), shown, baseline, state.bars);
    DenseNetPicture.peaks($("peaks"), shown, baseline);
    light();
  }

  const plainName = (name) => name.replace(/block(\d+)\.layer(\d+)/, "layer $2 of block $1")
    .replace(/^(block|transition)(\d)$/, "$1 $2").replace(/^(stem|head)$/, "the $1");

  function describe(i) {
    const { layers, state } = shown;
    const layer = layers[i];
    const [c, h, w] = layer.shape;
    const [first, ...more] = sources(layers, i);
    let from = first === undefined ? "the image" : plainName(layers[first].name);
    if (more.length) from += ` and the ${more.length > 1 ? `${more.length} layers` : "layer"} after it`;
    const added = layer.stage.startsWith("block") ? `adds ${state.growth_rate}, so ` : "";
    const share = (key) => {
      const all = layers.reduce((sum, one) => sum + one[key], 0);
      return `${two.format((100 * layer[key]) / all)} %`;
    };
    return `${plainName(layer.name)} reads ${whole.format(layer.reads)} channels from ${from}; ` +
      `${added}${whole.format(c)} leave it, at ${h}×${w}. Its share: ${share("parameters")} of the parameters ` +
      `(${whole.format(layer.parameters)}), ${share("macs")} of the MACs, ` +
      `${share("activations")} of the bytes kept.`;
  }

  // Lights the chosen layer, if this network has it, and what it reads.
  function light() {
    const place = shown.layers.findIndex((layer) => layer.name === chosen);
    picture.light(place < 0 ? null : place);
    const text = place < 0 ? "point at a bar, tap it, or take the arrow keys: " +
      "what the layer reads lights up." : describe(place);
    $("layer").textContent = text[0].toUpperCase() + text.slice(1);
    $("drawing").setAttribute("aria-valuenow", Math.max(1, place + 1));
    $("drawing").setAttribute("aria-valuemax", shown.layers.length);
    $("drawing").setAttribute("aria-valuetext", $("layer").textContent);
  }

  function choose(i) {
    chosen = (shown.layers[Math.max(0, i)] ?? shown.layers.at(-1)).name;
    light();
  }

  // One turn.

  function complain(errors) {
    const message = errors.map((error) => error.message).join(" ");
    $("error").textContent = message && `${message} The figures are those of the last network that works.`;
    $("error").hidden = !message;
    for (const { key } of errors) key && knob(key)?.setAttribute("aria-invalid", "true");
  }

  function load(text) {
    const found = parse(text);
    ({ base, state } = found);
    baseline = pinned(found.baseline, found.wrong);
    return found.wrong;
  }

  function update(wrong = []) {
    toKnobs();
    const problem = impossible(state);
    if (!problem) shown = count(state);
    shown ??= count(preset(base));
    show();
    complain(problem ? [...wrong, problem] : wrong);
  }

  const begin = () => update(load(location.search));

  root.addEventListener("input", (event) => {
    try {
      fromKnob(event.target);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      complain([error]); // all else stays as it is
      return;
    }
    // Back undoes all that one drag does to a knob.
    if (!turned) toURL("pushState");
    turned = true;
    update();
  });
  root.addEventListener("change", () => {
    if (turned) toURL("replaceState");
    turned = false;
  });

  // With the keyboard at a knob, the picture is in view too.
  root.querySelector("form").addEventListener("focusin", ({ target }) => {
    if (!target.matches(":focus-visible")) return;
    const options = { block: "nearest", behavior: "instant" };
    $("show").scrollIntoView(options);
    target.scrollIntoView(options);
  });

  const buttons = {
    keep: () => (baseline = { ...shown, name: words(now()), text: address(now()) }),
    forget: () => (baseline = null),
    reset: () => load(""),
  };
  for (const [name, action] of Object.entries(buttons)) {
    $(name).addEventListener("click", () => {
      action();
      toURL("pushState");
      update();
    });
  }

  for (const button of root.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const from = $(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(from?.textContent ?? location.href);
        $("copied").textContent = "copied";
      } catch { // from the disk, or refused
        if (from) getSelection().selectAllChildren(from);
        $("copied").textContent = from ? "selected: press Ctrl+C" : "copy it from the address bar";
      }
    });
  }

  const svg = $("drawing");
  for (const event of ["pointermove", "pointerdown"]) {
    svg.addEventListener(event, ({ clientX }) =>
      choose(picture.at(clientX - svg.getBoundingClientRect().left)));
  }
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && !chosen && choose(0));
  svg.addEventListener("keydown", (event) => {
    const now = shown.layers.findIndex((layer) => layer.name === chosen);
    const moves = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });

  addEventListener("popstate", begin);
  root.hidden = false;
  measure();
  begin();
  new ResizeObserver(() => {
    measure();
    draw();
  }).observe(svg);
})();
