// The closed forms of d2l_dense/cost/ (densenet.py, tape.py, peak.py): no DOM.
//
// All that grows with the batch is proportional to it. So everything is counted
// for one image, in numbers that the limits of the knobs keep far below 2 ** 53
// (`safe` checks it), and multiplied by the batch as a BigInt.
const DenseNetCost = (() => {
  "use strict";

  const MEMORY = ["plain", "checkpoint", "shared"];

  const half = (side) => Math.ceil(side / 2);
  const size = ([c, h, w]) => c * h * w;
  const sum = (items, key) => items.reduce((all, item) => all + item[key], 0);

  function safe(value) {
    if (!Number.isSafeInteger(value)) throw new Error(`${value} is not exact`);
    return value;
  }

  // One image through the net: its layers, each {stage, name, reads, shape,
  // parameters, macs, activations}, activations in bytes if memory="plain".
  function layers(net, side, bytes) {
    const found = [];
    let shape = [net.in_channels, side, side];
    let row;

    function begin(stage, name = stage) {
      row = { stage, name, reads: shape[0], parameters: 0, macs: 0, activations: 0 };
      found.push(row);
    }
    function write(channels, kept = bytes) {
      shape = [channels, shape[1], shape[2]];
      row.shape = shape;
      row.activations += size(shape) * kept;
    }
    function conv(out, kernel, stride = 1, bias = net.bias, kept = bytes) {
      const c = shape[0];
      if (stride === 2) shape = [c, half(shape[1]), half(shape[2])];
      const weights = c * out * kernel ** 2;
      row.parameters += weights + (bias ? out : 0);
      row.macs += weights * shape[1] * shape[2];
      write(out, kept);
    }
    function norm() {
      row.parameters += 2 * shape[0];
      write(shape[0]);
    }
    function pool(kind, h, w) {
      shape = [shape[0], h, w];
      write(shape[0], { avg: bytes, max: bytes + 8, stride: 0 }[kind]);
    }

    begin("stem");
    if (net.stem === "cifar") {
      conv(net.num_channels, 3);
    } else {
      conv(net.num_channels, 7, 2);
      norm();
      pool("max", half(shape[1]), half(shape[2]));
    }
    net.arch.forEach((numLayers, i) => {
      for (let j = 1; j <= numLayers; j++) {
        begin(`block${i + 1}`, `block${i + 1}.layer${j}`);
        const before = shape[0];
        norm();
        if (net.bottleneck !== null) {
          conv(net.bottleneck * net.growth_rate, 1);
          norm();
        }
        conv(net.growth_rate, 3, 1, net.bias, 0);
        write(before + net.growth_rate); // concatenation
      }
      if (i === net.arch.length - 1) return;
      const name = `transition${i + 1}`;
      const out = Math.floor(shape[0] * net.compression); // Python's int
      begin(name);
      norm();
      pool(net.pool, Math.floor(shape[1] / 2), Math.floor(shape[2] / 2));
      conv(out, 1);
      if (!shape.every(Boolean)) {
        throw new RangeError(
          `output of ${name}=(${shape.join(", ")}): expected ` +
            "no 0, so a larger input_shape or compression",
        );
      }
    });
    begin("head");
    norm();
    pool("avg", 1, 1);
    conv(net.num_classes, 1, 1, true, 0);
    return found;
  }

  // Channels that a block keeps, and that its last backward pass holds.
  function block(memory, c, k, numLayers, m) {
    const read = c - k;
    if (memory === "shared") {
      const [growing, reads] = numLayers > 1 ? [read, read - k] : [0, read];
      const held = 2 * c + growing + Math.max(read, m)
        + Math.max(reads + Math.max(m, k), 2 * m);
      return [c + numLayers * m, held + numLayers * m];
    }
    return [read + c, 3 * read + c + Math.max(4 * m, 2 * read)];
  }

  // Bytes that the backward pass of a stem, transition or head holds at once.
  function between(net, name, shape, before, bytes) {
    if (name === "stem" && net.stem === "cifar") return bytes * size(shape);
    if (name === "stem") {
      const full = shape[0] * half(before[1]) * half(before[2]);
      return bytes * (3 * full + size(shape)) + 8 * size(shape);
    }
    const indices = net.pool === "max" ? 8 * before[0] * shape[1] * shape[2] : 0;
    return 3 * bytes * size(before) + indices;
  }

  // For each stage, what a step holds at its turn: `slope` bytes an image, and
  // `later`, the gradients of the parameters that are there by then.
  function turns(net, memory, found, side, bytes) {
    const m = (net.bottleneck || 0) * net.growth_rate;
    let later = 4 * sum(found, "parameters");
    let before = [net.in_channels, side, side];
    let kept = 0;
    return [...new Set(found.map((row) => row.stage))].map((stage) => {
      const rows = found.filter((row) => row.stage === stage);
      const shape = rows[rows.length - 1].shape;
      later -= 4 * sum(rows, "parameters");
      let own = 0;
      let work = 0;
      let there = later;
      if (!stage.startsWith("block")) {
        work = between(net, stage, shape, before, bytes);
      } else if (memory !== "plain") {
        [own, work] = block(memory, shape[0], net.growth_rate, rows.length, m)
          .map((channels) => channels * bytes * shape[1] * shape[2]);
        if (memory === "shared" && rows.length > 1) {
          there += 4 * rows[rows.length - 1].parameters;
        }
      }
      if (memory === "plain") {
        own = sum(rows, "activations");
        work = Math.max(work, own + bytes * size(shape));
      }
      const turn = { stage, slope: safe(kept + work), later: there };
      kept += own;
      before = shape;
      return turn;
    });
  }

  // Everything about a net: {layers, parameters, macs (of an image), activations,
  // memory: {strategy: {stage, parameters, gradients, optimizer, activations,
  // inputs, total, largest (for each budget)}}}; numbers of bytes are BigInts.
  // Throws a RangeError with the words of the Python code.
  function count(net, { side, batch, bytes, budgets, states = 1 }) {
    const found = layers(net, side, bytes);
    const n = BigInt(batch);
    const parameters = safe(sum(found, "parameters"));
    const fixed = BigInt(4 * parameters * (1 + states));
    const input = BigInt(4 * net.in_channels * side * side + 8);
    const memory = {};
    for (const strategy of MEMORY) {
      const candidates = turns(net, strategy, found, side, bytes).map((turn) => ({
        stage: turn.stage,
        slope: BigInt(turn.slope),
        later: BigInt(turn.later),
      }));
      let top = null;
      for (const turn of candidates) {
        const value = n * turn.slope + turn.later;
        // Of two equal ones Python's max takes the name that sorts last.
        if (!top || value > top.value || (value === top.value && turn.stage > top.stage)) {
          top = { ...turn, value };
        }
      }
      memory[strategy] = {
        stage: top.stage,
        parameters: BigInt(4 * parameters),
        gradients: top.later,
        optimizer: BigInt(4 * states * parameters),
        activations: top.value - top.later,
        inputs: n * input,
        total: fixed + top.value + n * input,
        // A line in n for each stage: the largest n under all of them.
        largest: budgets.map((budget) => {
          const room = candidates.map(
            ({ slope, later }) => (BigInt(budget) - fixed - later) / (slope + input),
          );
          const least = room.reduce((a, b) => (b < a ? b : a));
          return least > 0n ? least : 0n;
        }),
      };
    }
    return {
      layers: found,
      parameters,
      macs: safe(sum(found, "macs")),
      activations: n * BigInt(safe(sum(found, "activations"))),
      memory,
    };
  }

  return { MEMORY, count };
})();

if (typeof module !== "undefined") module.exports = DenseNetCost;
