// An ONNX file in, palettized ONNX and .slq out, and both run beside each other.
import * as slq from "./slq.js";
import { bytesOf, onFiles } from "./drop.js";
import { size, time } from "./format.js";

const get = (id) => document.getElementById(id);

function cell(text, number = false) {
  const td = document.createElement("td");
  td.textContent = text;
  if (number) td.className = "n";
  return td;
}

function row(layer) {
  const tr = document.createElement("tr");
  const books = layer.note ?? `${layer.codebooks} × ${layer.values}`;
  tr.append(cell(layer.node || layer.weight), cell(layer.op), cell(layer.shape.join(" × ")), cell(size(layer.float_bytes), true),
    cell(size(layer.stored_bytes), true), cell(size(layer.entropy_bytes), true), cell(books, true),
    cell(layer.error ? `${(100 * layer.error).toFixed(2)} %` : "–", true));
  tr.title = layer.weight;
  return tr;
}

function bar(label, bytes, most) {
  const [name, line, value] = [document.createElement("span"), document.createElement("i"), document.createElement("span")];
  name.textContent = label;
  line.style.width = `${100 * bytes / most}%`;
  value.textContent = bytes === most ? size(bytes) : `${size(bytes)} (${(most / bytes).toFixed(1)} times smaller)`;
  return [name, line, value];
}

function offer(id, bytes, name) {
  const link = get(id);
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  link.download = name;
}

/** Reproducible values between 0 and 1. */
function randomValues(count) {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  });
}

let runtime = null;

/** onnxruntime-web on one thread, as the module has one. */
async function onnxruntime() {
  if (!runtime) {
    runtime = await import("./ort/ort.wasm.min.mjs").catch(() => {
      throw new Error("onnxruntime-web is not beside this page (scripts/web puts it there where npm is at hand)");
    });
    runtime.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
    runtime.env.wasm.numThreads = 1;
  }
  return runtime;
}

/** The median of some runs, after one that warms up. */
async function median(run) {
  let answer = await run();
  const times = [];
  for (let i = 0; i < 5; i++) {
    answer = await run();
    times.push(answer.ms);
  }
  return { ...answer, ms: times.sort((a, b) => a - b)[2] };
}

async function compare(made) {
  const ort = await onnxruntime();
  const network = await slq.open(made.slq);
  try {
    const [input, ...others] = network.inputs;
    if (!input?.shape || others.length || !input.float) throw new Error("only networks with one input of floats are compared");
    const pictures = input.shape.length === 4;
    const shape = input.shape.map((d, axis) => d ?? (axis === 0 || !pictures ? 1 : 224));
    const count = shape.reduce((a, b) => a * b, 1);
    if (count > MOST_VALUES) throw new Error(`the input ${input.name} has ${count} values, more than this page makes up`);
    const values = randomValues(count);
    const ours = await median(() => slq.run(network.network, shape, values));
    const session = await ort.InferenceSession.create(made.onnx);
    const theirs = await median(async () => {
      const start = performance.now();
      const outputs = await session.run({ [input.name]: new ort.Tensor("float32", values, shape) });
      return { values: outputs[network.outputs[0].name].data, ms: performance.now() - start };
    });
    await session.release();
    const most = theirs.values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const apart = ours.values.reduce((m, v, i) => Math.max(m, Math.abs(v - theirs.values[i])), 0);
    return { ours, theirs, count: ours.values.length, relative: apart / (most || 1), same: ours.values.length === theirs.values.length };
  } finally {
    await slq.close(network.network);
  }
}

/** Values of an input that is made up: a picture of 4096 x 4096 in three colours. */
const MOST_VALUES = 3 * 2 ** 24;

/** Differences of rounding, relative to the largest output. */
const ROUNDING = 1e-4;

export function startCompress() {
  let [file, made, jobs] = [null, null, 0];

  async function work() {
    if (!file) return;
    // What an earlier file or setting gives is shown no more.
    const job = ++jobs;
    const [from, bits] = [file, get("bits").value];
    const error = get("compress-error");
    error.textContent = "";
    get("compare-result").textContent = "";
    get("compress-result").hidden = true;
    get("compress").setAttribute("aria-busy", "true");
    try {
      const answer = await slq.compress(await bytesOf(from), Number(bits), get("granularity").value === "1");
      if (job !== jobs) return;
      made = answer;
      get("layers").tBodies[0].replaceChildren(...made.layers.map(row));
      const most = Math.max(made.file_bytes, made.onnx_bytes, made.slq_bytes);
      get("sizes").replaceChildren(...bar(from.name, made.file_bytes, most), ...bar("palettized ONNX", made.onnx_bytes, most),
        ...bar(".slq", made.slq_bytes, most));
      const stem = `${from.name.replace(/\.onnx$/i, "")}-${bits}bit`;
      offer("save-onnx", made.onnx, `${stem}.onnx`);
      offer("save-slq", made.slq, `${stem}.slq`);
      const others = made.other_bytes ? `, beside ${size(made.other_bytes)} of other parameters` : "";
      get("compare-result").textContent = `${made.layers.length} weights clustered in ${time(made.ms)}${others}.`;
      get("compress-result").hidden = false;
    } catch (failure) {
      if (job === jobs) error.textContent = `${from.name}: ${failure.message}`;
    } finally {
      if (job === jobs) get("compress").removeAttribute("aria-busy");
    }
  }

  onFiles(get("compress-drop"), get("compress-file"), ([first]) => { file = first ?? file; work(); });
  get("bits").addEventListener("change", work);
  get("granularity").addEventListener("change", work);
  get("compare").addEventListener("click", async () => {
    const [place, button] = [get("compare-result"), get("compare")];
    button.disabled = true;
    delete place.dataset.equal;
    place.textContent = "running both …";
    try {
      const { ours, theirs, count, relative, same } = await compare(made);
      const equal = same && relative <= ROUNDING;
      place.dataset.equal = equal;
      place.textContent = `${equal ? "Equal" : "Different"}: ${count} outputs, largest difference ${relative.toExponential(1)} of the largest `
        + `output. The .slq here: ${time(ours.ms)}; the palettized ONNX in onnxruntime-web, one thread: ${time(theirs.ms)}.`;
    } catch (failure) {
      place.dataset.equal = "failed";
      place.textContent = failure.message;
    }
    button.disabled = false;
  });
}
