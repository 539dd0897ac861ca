// Runs the module away from the page, so that long jobs do not freeze it.
import { Call, ModuleError, instantiate, json } from "./module.js";

const bytes = fetch("slq.wasm").then((answer) => {
  if (!answer.ok) throw new Error(`slq.wasm: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
});
let module = null;

// Networks by the numbers that the page knows: their files, and their numbers in the module. A module that stopped is replaced by a
// new one, in which they are opened again when they are used.
const networks = new Map();
let opened = 0;

function open(a, b, argument) {
  const answer = json(module.call(Call.open, a, b, argument));
  networks.set(++opened, { file: argument, a, b, number: answer.network });
  return new TextEncoder().encode(JSON.stringify({ ...answer, network: opened }));
}

function call(number, a, b, argument) {
  if (number === Call.open) return open(a, b, argument);
  const network = number === Call.run || number === Call.close ? networks.get(a) : undefined;
  if (!network) return module.call(number, a, b, argument);
  if (number === Call.close) {
    networks.delete(a);
    return network.number === null ? new Uint8Array() : module.call(number, network.number, b, argument);
  }
  network.number ??= json(module.call(Call.open, network.a, network.b, network.file)).network;
  return module.call(number, network.number, b, argument);
}

async function handle({ id, number, a, b, argument }) {
  try {
    module ??= await instantiate(await bytes);
    const start = performance.now();
    const answer = call(number, a, b, argument);
    const ms = performance.now() - start;
    postMessage({ id, answer, ms }, [answer.buffer]);
  } catch (error) {
    let text = error.message;
    if (!(error instanceof ModuleError)) {
      // The module stopped in the middle, such as for lack of memory or stack: it may not be used any more.
      module = null;
      for (const network of networks.values()) network.number = null;
      text = `the module stopped (${text}), perhaps for lack of memory; it starts anew`;
    }
    postMessage({ id, error: text });
  }
}

// One at a time, in order.
let last = Promise.resolve();
onmessage = (event) => { last = last.then(() => handle(event.data)); };
