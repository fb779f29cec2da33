// The Explorer's two pictures as SVG: a bar a layer, and the peak of a step by kind.
// They are drawn anew at every turn of a knob, but from elements that stay: so CSS can
// let the bars of a small network grow instead of jump.
const DenseNetPicture = (() => {
  "use strict";

  const KINDS = ["parameters", "gradients", "optimizer", "activations", "inputs"];
  const fourDigits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });

  // A number in four digits: 7.979 M, 26.21 MB. Small counts stay whole.
  function short(value, unit = "") {
    const size = Number(value);
    const power = size < (unit ? 1e3 : 1e4) ? 0 : Math.min(6, Math.floor(Math.log10(size) / 3));
    return `${fourDigits.format(size / 1000 ** power)} ${"_kMGTPE"[power]}${unit}`
      .replace("_", "").trim();
  }

  // Round values from 0 to at most `max`, about so many.
  function ticks(max, about) {
    const power = 10 ** Math.floor(Math.log10(max / about));
    const step = Math.max(1, [1, 2, 5, 10].find((n) => n * power >= max / about) * power);
    return Array.from({ length: Math.floor(max / step) + 1 }, (_, i) => i * step);
  }

  // One element for each item in the group of this class, with the attributes (or the
  // text) that `describe` gives.
  function place(svg, group, element, items, describe) {
    const parent = svg.querySelector(`.${group}`);
    while (parent.childElementCount > items.length) parent.lastChild.remove();
    while (parent.childElementCount < items.length) {
      parent.append(document.createElementNS("http://www.w3.org/2000/svg", element));
    }
    [...parent.children].forEach((child, i) => {
      for (const [key, value] of Object.entries(describe(items[i], i))) {
        if (key === "text") child.textContent = value;
        else child.setAttribute(key, value);
      }
    });
  }

  const isDense = (layer) => layer.stage.startsWith("block");

  // The layers that layer i reads, by their places.
  function sources(layers, i) {
    if (!isDense(layers[i])) return i ? [i - 1] : [];
    const first = layers.findIndex((layer) => layer.stage === layers[i].stage) - 1;
    return Array.from({ length: i - first }, (_, j) => first + j);
  }

  // What the bars show of a configuration's layers, as numbers.
  const amounts = ({ layers, state }, shows) => layers.map((layer) => shows === "channels"
    ? layer.shape[0] : layer[shows] * (shows === "activations" ? state.batch : 1));

  // A bar a layer; the baseline's bars as an outline. Both are configurations that
  // view.js has counted. Returns how to find a bar and how to light what it reads.
  function bars(svg, now, baseline, shows) {
    const { layers, state } = now;
    const [width, height] = svg.size;
    const [left, top, bottom] = [52, height / 6, height - 36];
    const all = amounts(now, shows);
    const old = baseline?.layers ? amounts(baseline, shows) : [];
    const step = (width - left) / Math.max(all.length, old.length);
    const most = Math.max(...all, ...old);
    const wide = Math.min(28, step * 0.8);
    const x = (i) => left + i * step;
    const y = (amount) => bottom - (amount / most) * (bottom - top);
    const box = (i, amount) => ({
      x: x(i), width: wide, y: Math.min(y(amount), bottom - 1), height: Math.max(1, bottom - y(amount)),
    });

    const [marks, unit] = [ticks(most, height / 60), shows === "activations" ? "B" : ""];
    place(svg, "grid", "line", marks, (mark) => ({ x1: left, x2: width, y1: y(mark), y2: y(mark) }));
    place(svg, "ticks", "text", marks, (mark) =>
      ({ x: left - 6, y: y(mark) + 4, text: short(mark, unit) }));
    const title = { macs: "MACs an image", activations: "bytes kept" }[shows] ?? shows;
    place(svg, "title", "text", [title], (text) => ({ x: 0, y: 10, text }));
    place(svg, "bars", "rect", layers, (layer, i) => ({
      ...box(i, all[i]), "data-layer": layer.name, class: isDense(layer) ? "dense" : "",
    }));
    svg.dataset.shows = shows;
    // Of the channels, those that the layer itself adds.
    const adding = layers.flatMap((layer, i) => shows === "channels" && isDense(layer) ? [i] : []);
    const high = box(0, state.growth_rate).height;
    place(svg, "added", "rect", adding, (i) => ({ ...box(i, all[i]), height: high }));
    const outline = old.map((amount, i) => `V${y(amount)}H${x(i) + step}`).join("");
    place(svg, "baseline", "path", outline ? [outline] : [], (d) =>
      ({ d: `M${left} ${bottom}${d}V${bottom}` }));

    function arc(from, to) {
      const [x1, x2] = [x(from) + wide / 2, x(to) + wide / 2];
      const [y1, y2] = [y(all[from]), y(all[to])];
      const high = Math.min(y1, y2) - Math.min(top, 8 + (x2 - x1) / 3);
      return `M${x1} ${y1}C${x1} ${high} ${x2} ${high} ${x2} ${y2}`;
    }
    const many = layers.length > 40; // then only the lit connections can be told apart
    svg.dataset.many = many;
    const arcs = many ? [] : layers.map((_, i) => sources(layers, i).map((j) => arc(j, i)).join(""));
    place(svg, "connections", "path", arcs, (d) => ({ d }));

    // Under each block a bracket; under that its name and the size of its images. Where
    // blocks are narrow the names are pushed apart, and a line leads to each.
    const blocks = [...new Set(layers.filter(isDense).map((layer) => layer.stage))].map((stage) => {
      const first = layers.findIndex((layer) => layer.stage === stage);
      const last = layers.findLastIndex((layer) => layer.stage === stage);
      const ends = [x(first), x(last) + wide];
      const [, h, w] = layers[first].shape;
      return { ends, middle: (ends[0] + ends[1]) / 2, size: `${h}×${w}`, name: stage.replace("block", "block ") };
    });
    const room = Math.min(62, width / blocks.length);
    blocks.forEach((block, i) => {
      const free = i ? blocks[i - 1].text + room : room / 2;
      const end = width - (blocks.length - i - 0.5) * room;
      block.text = Math.min(Math.max(block.middle, free), end);
    });
    place(svg, "stages", "path", blocks, ({ ends, middle, text }) =>
      ({ d: `M${ends[0]} ${bottom + 3}H${ends[1]}M${middle} ${bottom + 3}L${text} ${bottom + 9}` }));
    const lines = blocks.flatMap((block) => [[block, "name", 19], [block, "size", 32]]);
    place(svg, "names", "text", lines, ([block, key, down]) =>
      ({ x: block.text, y: bottom + down, text: block[key] }));

    function light(i) {
      const read = i === null ? [] : sources(layers, i);
      place(svg, "lit", "path", read, (j) => ({ d: arc(j, i) }));
      [...svg.querySelector(".bars").children].forEach((bar, j) => {
        bar.classList.toggle("chosen", j === i);
        bar.classList.toggle("feeds", read.includes(j));
      });
    }
    return { at: (pixel) => Math.floor((pixel - left) / step), light };
  }

  // The peak of a step for each memory strategy, stacked by kind.
  function peaks(svg, now, baseline) {
    const names = Object.keys(now.memory);
    const [width] = svg.size;
    const [left, right, high, bottom] = [82, 84, 28, names.length * 28];
    const total = (one, name) => Number(one?.memory?.[name].total ?? 0);
    const most = Math.max(...names.flatMap((name) => [total(now, name), total(baseline, name)]));
    const x = (amount) => left + (amount / most) * (width - left - right);
    const marks = ticks(most, width / 150);
    place(svg, "grid", "line", marks, (mark) => ({ x1: x(mark), x2: x(mark), y1: 0, y2: bottom }));
    place(svg, "ticks", "text", marks, (mark) =>
      ({ x: x(mark), y: bottom + 14, text: short(mark, "B") }));
    const parts = names.flatMap((name, row) => {
      let start = 0;
      return KINDS.map((kind) => {
        const amount = Number(now.memory[name][kind]);
        start += amount;
        return { row, kind, amount, start: start - amount };
      });
    });
    const box = (row, start, amount) =>
      ({ x: x(start), width: x(amount) - left, y: row * high + 4, height: high - 8 });
    place(svg, "kinds", "rect", parts, ({ row, kind, amount, start }) =>
      ({ ...box(row, start, amount), class: kind }));
    place(svg, "baseline", "rect", baseline?.memory ? names : [], (name, row) =>
      box(row, 0, total(baseline, name)));
    const texts = names.flatMap((name, row) => {
      const value = short(now.memory[name].total, "B");
      const end = x(Math.max(total(now, name), total(baseline, name))) + 6;
      return [{ row, name, x: 0, text: name }, { row, name, x: end, text: value }];
    });
    place(svg, "names", "text", texts, ({ row, name, x, text }) => ({
      x, text, y: row * high + high / 2 + 4, class: name === now.state.memory ? "chosen" : "",
    }));
    const spoken = names.map((name) => `${name} ${short(now.memory[name].total, "B")}`);
    svg.setAttribute("aria-label", `Peak of a training step: ${spoken.join(", ")}`);
  }

  return { KINDS, bars, peaks, short, sources };
})();
