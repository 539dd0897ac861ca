// Runs the module away from the page, so that long jobs do not freeze it.
import { instantiate } from "./module.js";

const bytes = fetch("slq.wasm").then((answer) => {
  if (!answer.ok) throw new Error(`slq.wasm: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
});
let module = null;

async function handle({ id, number, a, b, argument }) {
  try {
    module ??= await instantiate(await bytes);
    const start = performance.now();
    const answer = module.call(number, a, b, argument);
    const ms = performance.now() - start;
    postMessage({ id, answer, ms }, [answer.buffer]);
  } catch (error) {
    let text = error.message;
    if (error instanceof WebAssembly.RuntimeError) {
      // The module stopped in the middle: it may not be used any more.
      module = null;
      text = `the module stopped (${text}), perhaps for lack of memory; networks must be opened again`;
    }
    postMessage({ id, error: text });
  }
}

// One at a time, in order.
let last = Promise.resolve();
onmessage = (event) => { last = last.then(() => handle(event.data)); };
