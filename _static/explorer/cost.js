// The closed forms of d2l_dense/cost/ (densenet.py, tape.py, turns.py, peak.py): no DOM.
//
// Nearly all that grows with the batch is proportional to it. So everything is
// counted for one image, in numbers that the limits of the knobs keep far below 2 ** 53
// (`safe` checks it), and multiplied by the batch as a BigInt.
const DenseNetCost = (() => {
  "use strict";

  const MEMORY = ["plain", "checkpoint", "shared"];
  const PART = 8 * 2 ** 20;

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

  // What a turn of the backward pass holds: bytes an image, and more an image of a
  // part; a part has as many images as fit into PART, `unit` bytes each, or less.
  function turn(anImage, inPart = 0, unit = 1) {
    const images = Math.max(1, Math.floor(PART / unit));
    return { anImage, inPart, images };
  }

  // The turn of a stem, transition or head.
  function between(net, memory, stage, shape, before, bytes) {
    if (stage === "stem" && net.stem === "cifar") return turn(bytes * size(shape));
    const lean = memory === "shared";
    if (stage === "stem") {
      const pooled = size(shape);
      const full = shape[0] * half(before[1]) * half(before[2]);
      return lean
        ? turn(3 * bytes * pooled, bytes * (2 * full + pooled) + 8 * pooled, bytes * full)
        : turn(bytes * (3 * full + pooled) + 8 * pooled);
    }
    if (lean && stage !== "head") return turn(0);
    const maximum = stage !== "head" && net.pool === "max";
    const indices = maximum ? 8 * before[0] * shape[1] * shape[2] : 0;
    return turn(3 * bytes * size(before) + indices);
  }

  // Bytes an image that a stage keeps for its backward pass, and the turns of that.
  function ofStage(net, memory, rows, before, following, bytes) {
    const { stage } = rows[0];
    const { shape } = rows[rows.length - 1];
    const isBlock = stage.startsWith("block");
    if (memory === "plain") {
      const own = sum(rows, "activations");
      const turns = isBlock ? [] : [between(net, memory, stage, shape, before, bytes)];
      return [own, [...turns, turn(own + bytes * size(shape))]];
    }
    if (!isBlock) {
      const maxima = stage === "stem" && net.stem === "imagenet" && memory === "shared";
      const own = maxima ? bytes * size(shape) : 0;
      return [own, [between(net, memory, stage, shape, before, bytes)]];
    }
    const [c, h, w] = shape;
    const k = net.growth_rate;
    const m = (net.bottleneck || 0) * k;
    const pixels = bytes * h * w;
    const read = c - k;
    if (memory === "checkpoint") {
      const work = 3 * read + c + Math.max(4 * m, 2 * read);
      return [pixels * (read + c), [turn(pixels * work)]];
    }
    const first = before[0];
    const kept = c + rows.length * m;
    let there = pixels * (kept + read + c);
    const turns = [];
    if (following.stage.startsWith("transition")) {
      there = pixels * (kept + c) + bytes * size(following.shape);
      const pooled = c * following.shape[1] * following.shape[2];
      const indices = net.pool === "max" ? 8 * pooled : 0;
      const inPart = 2 * (pixels * c + bytes * pooled) + indices;
      turns.push(turn(there, inPart, pixels * c));
    }
    for (const reads of [first, read]) {
      const inPart = 3 * reads + Math.max(m, k);
      turns.push(turn(there + pixels * m, pixels * inPart, pixels * reads));
    }
    if (m) turns.push(turn(there + pixels * m, pixels * (2 * m + k), pixels * m));
    turns.push(turn(there + pixels * first, pixels * first, pixels * first));
    return [pixels * kept, turns];
  }

  // All turns of a step: `slope` bytes an image, `inPart` more for each of at most
  // `images`, and `later`, the gradients of the parameters that are there by then.
  function turns(net, memory, found, side, bytes) {
    const stages = [...new Set(found.map((row) => row.stage))].map((stage) =>
      found.filter((row) => row.stage === stage),
    );
    let later = 4 * sum(found, "parameters");
    let before = [net.in_channels, side, side];
    let kept = 0;
    return stages.flatMap((rows, i) => {
      const next = stages[Math.min(i + 1, stages.length - 1)];
      const parameters = 4 * sum(rows, "parameters");
      later -= parameters;
      const { stage } = rows[0];
      const handed = memory === "shared" && stage.startsWith("block");
      const following = next[next.length - 1];
      const [own, its] = ofStage(net, memory, rows, before, following, bytes);
      const all = its.map(({ anImage, inPart, images }) => ({
        stage,
        slope: BigInt(safe(kept + anImage)),
        inPart: BigInt(safe(inPart)),
        images: BigInt(images),
        later: BigInt(later + (handed ? parameters : 0)),
      }));
      kept += own;
      before = rows[rows.length - 1].shape;
      return all;
    });
  }

  // Images in a part, of n, where at most so many fit: all parts are alike.
  function partSize(n, most) {
    const parts = (n + most - 1n) / most;
    return (n + parts - 1n) / parts;
  }

  // Bytes that a turn holds for n images.
  function held({ slope, inPart, images, later }, n) {
    return n * slope + partSize(n, images) * inPart + later;
  }

  // The n that fits while one more does not; sought as the Python code does.
  function largest(fits) {
    if (!fits(1n)) return 0n;
    let [low, high] = [1n, 2n];
    while (fits(high)) [low, high] = [high, 2n * high];
    while (high - low > 1n) {
      const middle = (low + high) / 2n;
      [low, high] = fits(middle) ? [middle, high] : [low, middle];
    }
    return low;
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
      const candidates = turns(net, strategy, found, side, bytes);
      let top = null;
      for (const one of candidates) {
        const value = held(one, n);
        // Of two equal ones Python's max takes the name that sorts last, and of two
        // turns of a stage the one with more gradients.
        const equal = top && value === top.value;
        const later = equal && one.stage === top.stage && one.later > top.later;
        if (!top || value > top.value || (equal && one.stage > top.stage) || later) {
          top = { ...one, value };
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
        largest: budgets.map((budget) =>
          largest((n) => {
            const room = BigInt(budget) - fixed - n * input;
            return candidates.every((one) => held(one, n) <= room);
          }),
        ),
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
