// d2l_dense/cost.py again, name by name, for the browser: no DOM.
//
// What grows with the batch is proportional to it. So everything is counted for one
// image, in numbers that the limits of the knobs keep far below 2 ** 53 (`safe` checks
// it), and multiplied by the batch as a BigInt.
const DenseNetCost = (() => {
  "use strict";

  const MEMORY = ["plain", "checkpoint", "shared"];

  const half = (side) => Math.ceil(side / 2);
  const prod = ([c, h, w]) => c * h * w;
  const sum = (items, key) => items.reduce((all, item) => all + item[key], 0);

  function safe(value) {
    if (!Number.isSafeInteger(value)) throw new Error(`${value} is not exact`);
    return value;
  }

  // One image through the network: its layers, each {stage, name, reads, shape,
  // parameters, macs, activations}, activations in bytes if memory="plain".
  function layers(net, side, bytes) {
    const found = [];
    let shape = [net.in_channels, side, side];
    let row;

    function begin(stage, name = stage) {
      row = { stage, name, reads: shape[0], parameters: 0, macs: 0, activations: 0 };
      found.push(row);
    }
    function write(channels, size = bytes) {
      shape = [channels, shape[1], shape[2]];
      row.shape = shape;
      row.activations += prod(shape) * size;
    }
    function conv(out, kernel, { stride = 1, bias = net.bias, size = bytes } = {}) {
      const weights = shape[0] * out * kernel ** 2;
      if (stride === 2) shape = [shape[0], half(shape[1]), half(shape[2])];
      row.parameters += weights + (bias ? out : 0);
      row.macs += weights * shape[1] * shape[2];
      write(out, size);
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
      conv(net.num_channels, 7, { stride: 2 });
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
        conv(net.growth_rate, 3, { size: 0 });
        write(before + net.growth_rate); // concatenation
      }
      if (i === net.arch.length - 1) return;
      begin(`transition${i + 1}`);
      const narrow = Math.floor(shape[0] * net.compression); // Python's int
      if (!narrow) {
        throw new RangeError(
          `compression=${net.compression} is too small: it leaves ${row.name} no channel.`,
        );
      }
      norm();
      pool(net.pool, Math.floor(shape[1] / 2), Math.floor(shape[2] / 2));
      conv(narrow, 1);
    });
    begin("head");
    norm();
    pool("avg", 1, 1);
    conv(net.num_classes, 1, { bias: true, size: 0 });
    return found;
  }

  // Numbers that a stage's backward pass needs for a moment.
  function working(net, memory, stage, shape, before) {
    const lean = memory !== "plain";
    const [c, h, w] = shape;
    if (stage.startsWith("block")) {
      const reads = c - net.growth_rate;
      const inner = net.bottleneck * net.growth_rate || reads;
      return h * w * (lean ? c + 3 * reads : c + inner);
    }
    if (stage !== "stem") return Math.floor(((lean ? 7 : 4) * prod(before)) / 2);
    if (net.stem === "cifar") return prod(shape);
    const full = c * half(before[1]) * half(before[2]);
    return lean ? 3 * full + 4 * prod(shape) : full + prod(shape);
  }

  // Each stage with the bytes that are there when it goes backward: the gradients of
  // later parameters, and an image's activations.
  function moments(net, memory, rows, side, bytes) {
    const found = [];
    // What a layer keeps: its output; "shared": that of its bottleneck too.
    const added = net.growth_rate * (1 + (memory === "shared" ? net.bottleneck : 0));
    let kept = 0;
    let before = [net.in_channels, side, side];
    let gradients = 4 * sum(rows, "parameters");
    for (const stage of new Set(rows.map((row) => row.stage))) {
      const its = rows.filter((row) => row.stage === stage);
      const { shape } = its.at(-1);
      if (memory === "plain") {
        kept += sum(its, "activations");
      } else if (stage.startsWith("block")) {
        kept += bytes * its.length * added * shape[1] * shape[2];
      }
      const activations = kept + bytes * working(net, memory, stage, shape, before);
      found.push({ stage, gradients: BigInt(gradients), activations: BigInt(safe(activations)) });
      if (memory !== "plain") kept += bytes * prod(shape); // the next stage reads it
      gradients -= 4 * sum(its, "parameters");
      before = shape;
    }
    return found;
  }

  // Everything about a network: {layers, parameters, macs (of an image), activations,
  // memory: {strategy: {stage, parameters, gradients, optimizer, activations, inputs,
  // total, largest (for each budget)}}}; numbers of bytes are BigInts. Throws a
  // RangeError in words if there is no such network.
  function count(net, { side, batch, bytes, budgets }) {
    const halved = 2 ** (net.arch.length - 1);
    const smallest = net.stem === "cifar" ? halved : 4 * halved - 3;
    if (side < smallest) {
      throw new RangeError(
        `side=${side} is too small: ${net.arch.length} blocks halve the images so often ` +
          `that they need at least ${smallest} pixels a side.`,
      );
    }
    const rows = layers(net, side, bytes);
    const n = BigInt(batch);
    const parameters = safe(sum(rows, "parameters"));
    const fixed = BigInt(8 * parameters);
    const inputs = BigInt(4 * net.in_channels * side * side + 8);
    const memory = {};
    for (const strategy of MEMORY) {
      const found = moments(net, strategy, rows, side, bytes);
      const held = (one) => one.gradients + n * one.activations;
      const top = found.reduce((a, b) => (held(b) > held(a) ? b : a));
      const fits = (budget, one) => {
        const room = BigInt(budget) - fixed - one.gradients;
        return room > 0n ? room / (one.activations + inputs) : 0n;
      };
      memory[strategy] = {
        stage: top.stage,
        parameters: BigInt(4 * parameters),
        gradients: top.gradients,
        optimizer: BigInt(4 * parameters), // one momentum for each
        activations: n * top.activations,
        inputs: n * inputs,
        total: fixed + held(top) + n * inputs,
        largest: budgets.map((budget) =>
          found.map((one) => fits(budget, one)).reduce((a, b) => (b < a ? b : a)),
        ),
      };
    }
    return {
      layers: rows,
      parameters,
      macs: safe(sum(rows, "macs")),
      activations: n * BigInt(safe(sum(rows, "activations"))),
      memory,
    };
  }

  return { MEMORY, count };
})();
