// d2l_dense/cost.py once more, for the browser: the same names, the same arithmetic.
//
// What grows with the batch is proportional to it. So everything is counted for one
// image, in numbers that the limits of the knobs keep below 2 ** 53, where JavaScript
// is exact (`safe` checks it), and multiplied by the batch as a BigInt.
const DenseNetCost = (() => {
  "use strict";

  const MEMORY = ["plain", "checkpoint", "shared"];

  const half = (side) => Math.ceil(side / 2);
  const prod = ([c, h, w]) => c * h * w;
  const sum = (rows, key) => rows.reduce((all, row) => all + row[key], 0);

  function safe(value) {
    if (!Number.isSafeInteger(value)) throw new Error(`${value} is not exact`);
    return value;
  }

  // The layers, in the order in which they run: each with the channels that it reads,
  // the shape of its output, parameters, MACs, and bytes that memory="plain" keeps.
  function summary(net, side, bytes) {
    const k = net.growth_rate;
    const bias = net.bias ? 1 : 0;
    const inner = (net.bottleneck ?? 0) * k; // width of the bottleneck
    const rows = [];
    let [c, h, w, reads] = [net.num_channels, side, side, net.in_channels];

    function add(name, { norms, weights, biases, pixels, kept, indices = 0 }) {
      rows.push({
        name,
        stage: name.split(".")[0],
        reads,
        shape: [c, h, w],
        parameters: 2 * norms + weights + biases,
        macs: pixels * weights,
        activations: bytes * kept + 8 * indices,
      });
      reads = c;
    }

    if (net.stem === "cifar") {
      const weights = 9 * reads * c;
      add("stem", { norms: 0, weights, biases: bias * c, pixels: h * w, kept: c * h * w });
    } else { // 7x7 convolution, BN, max pooling; both halve the side
      const pixels = half(h) * half(w);
      [h, w] = [half(half(h)), half(half(w))];
      const pooled = c * h * w;
      add("stem", {
        norms: c, weights: 49 * reads * c, biases: bias * c, pixels,
        kept: 2 * c * pixels + pooled, indices: pooled,
      });
    }
    net.arch.forEach((numLayers, i) => {
      for (let j = 1; j <= numLayers; j++) {
        const weights = inner ? (c + 9 * k) * inner : 9 * c * k;
        const norms = c + inner;
        c += k;
        const kept = (norms + inner + c) * h * w; // BN, bottleneck, concatenation
        const biases = bias * (inner + k);
        add(`block${i + 1}.layer${j}`, { norms, weights, biases, pixels: h * w, kept });
      }
      if (i === net.arch.length - 1) return;
      const [norms, before] = [c, h * w];
      c = Math.floor(c * net.compression); // Python's int
      [h, w] = [Math.floor(h / 2), Math.floor(w / 2)];
      const pooled = norms * h * w;
      add(`transition${i + 1}`, {
        norms, weights: norms * c, biases: bias * c, pixels: h * w,
        kept: norms * before + c * h * w + pooled,
        indices: net.pool === "max" ? pooled : 0,
      });
    });
    const [norms, before, classes] = [c, h * w, net.num_classes];
    [c, h, w] = [classes, 1, 1];
    const kept = norms * before + norms;
    add("head", { norms, weights: norms * classes, biases: classes, pixels: 1, kept });
    return rows;
  }

  // The smallest side, and the smallest compression, that leave something everywhere.
  function smallestSide(net) {
    const halved = 2 ** (net.arch.length - 1);
    return net.stem === "cifar" ? halved : 4 * halved - 3;
  }

  function smallestCompression(net) {
    for (let hundredths = 1; ; hundredths++) {
      const compression = hundredths / 100;
      const rows = summary({ ...net, compression }, 1, 4);
      if (rows.every((row) => row.shape[0])) return compression;
    }
  }

  // Each stage with the bytes that are there when it goes backward: the gradients of
  // later parameters; and for an image, what all stages so far have kept and what this
  // one needs for a moment.
  function moments(net, memory, rows, side, bytes) {
    const lean = memory !== "plain";
    const k = net.growth_rate;
    const inner = (net.bottleneck ?? 0) * k;
    const found = [];
    let kept = 0;
    let before = [net.in_channels, side, side];
    let gradients = 4 * sum(rows, "parameters");
    for (const [stage, its] of byStage(rows)) {
      const { shape } = its.at(-1);
      if (!lean) {
        kept += sum(its, "activations");
      } else if (stage.startsWith("block")) { // all that its layers make, but the last
        const each = memory === "shared" ? k + inner : k;
        kept += bytes * (its.length * each - k) * shape[1] * shape[2];
      }
      const activations = safe(kept + bytes * working(net, stage, shape, before, memory));
      found.push({ stage, gradients: BigInt(gradients), activations: BigInt(activations) });
      if (lean) kept += bytes * prod(shape); // the next stage reads it
      gradients -= 4 * sum(its, "parameters");
      before = shape;
    }
    return found;
  }

  function byStage(rows) {
    const stages = new Map();
    for (const row of rows) {
      if (!stages.has(row.stage)) stages.set(row.stage, []);
      stages.get(row.stage).push(row);
    }
    return stages;
  }

  // Numbers that a stage's backward pass needs for a moment.
  function working(net, stage, shape, before, memory) {
    const [[c, h, w], lean] = [shape, memory !== "plain"];
    if (stage.startsWith("block")) {
      const reads = c - net.growth_rate; // by the last layer, which goes first
      const inner = net.bottleneck * net.growth_rate;
      if (!lean) return h * w * (c + (inner || reads)); // the output's gradient and the layer's
      // Concatenation, ReLU and a gradient; checkpointed, the bottleneck's as well.
      const again = memory === "checkpoint" && inner ? 2 * reads + 4 * inner : 0;
      return h * w * (c + Math.max(3 * reads, 3 * inner, again));
    }
    // Lean: ReLU, two gradients, what is pooled.
    if (stage !== "stem") return lean ? 3 * prod(before) + before[0] * h * w : 2 * prod(before);
    if (net.stem === "cifar") return prod(shape);
    const full = c * half(before[1]) * half(before[2]); // before the pooling
    // Lean: convolution, BN and a gradient; output, its gradient, indices of 8 bytes.
    return lean ? 3 * full + 4 * prod(shape) : full + prod(shape);
  }

  // The peak of a training step by memory strategy, {stage, parameters, gradients,
  // optimizer, activations, inputs, total}, and the largest batch in each budget.
  function peak(net, memory, rows, { side, batch, bytes, budgets }) {
    const found = moments(net, memory, rows, side, bytes);
    const n = BigInt(batch);
    const parameters = BigInt(4 * sum(rows, "parameters"));
    const optimizer = parameters; // one momentum for each
    const image = BigInt(4 * net.in_channels * side * side + 8); // and its label
    const held = (one) => one.gradients + n * one.activations;
    const top = found.reduce((a, b) => (held(b) > held(a) ? b : a));
    const largest = budgets.map((budget) => {
      const room = BigInt(budget) - parameters - optimizer;
      const fits = found.map((one) => (room - one.gradients) / (one.activations + image));
      const least = fits.reduce((a, b) => (b < a ? b : a));
      return least > 0n ? least : 0n;
    });
    const { stage, gradients } = top;
    const [activations, inputs] = [n * top.activations, n * image];
    const total = parameters + optimizer + gradients + activations + inputs;
    return { stage, parameters, gradients, optimizer, activations, inputs, total, largest };
  }

  // Everything that the page shows of a network.
  function count(net, setting) {
    const rows = summary(net, setting.side, setting.bytes);
    const memory = {};
    for (const one of MEMORY) memory[one] = peak(net, one, rows, setting);
    return {
      layers: rows,
      parameters: safe(sum(rows, "parameters")),
      macs: safe(sum(rows, "macs")),
      activations: BigInt(setting.batch) * BigInt(safe(sum(rows, "activations"))),
      memory,
    };
  }

  return { MEMORY, count, smallestSide, smallestCompression };
})();
