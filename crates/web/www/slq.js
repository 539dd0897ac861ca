// What the page calls: promises around the worker.
import { Call, floats, json, runArgument } from "./module.js";

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let count = 0;

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  data.error === undefined ? resolve(data) : reject(new Error(data.error));
};
worker.onerror = (event) => {
  for (const { reject } of waiting.values()) reject(new Error(event.message || "the worker cannot start"));
  waiting.clear();
};

function call(number, a = 0, b = 0, argument = new Uint8Array()) {
  return new Promise((resolve, reject) => {
    const id = ++count;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, number, a, b, argument });
  });
}

export const about = async () => json((await call(Call.about)).answer);

/** Opens a .slq or ONNX file: {network, inputs, outputs, packed_bytes, properties, ..., ms}. */
export async function open(bytes) {
  const { answer, ms } = await call(Call.open, 0, 0, bytes);
  return { ...json(answer), ms };
}

/** Runs an open network: {values, ms}. */
export async function run(network, shape, values) {
  const { answer, ms } = await call(Call.run, network, 0, runArgument(shape, values));
  return { values: floats(answer), ms };
}

export const close = (network) => call(Call.close, network);

let compressing = Promise.resolve();

/** Compresses an ONNX file: {layers, file_bytes, ..., onnx, slq, ms}. One at a time, as the module keeps one result. */
export function compress(bytes, bits, perChannel) {
  const answer = compressing.then(() => compressNow(bytes, bits, perChannel));
  compressing = answer.catch(() => {});
  return answer;
}

async function compressNow(bytes, bits, perChannel) {
  const { answer, ms } = await call(Call.compress, bits, perChannel ? 1 : 0, bytes);
  const onnx = (await call(Call.part, 0)).answer;
  const slq = (await call(Call.part, 1)).answer;
  return { ...json(answer), onnx, slq, ms };
}
