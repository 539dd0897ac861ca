// The WebAssembly module behind plain functions; browsers and node run it alike.

export const Call = { about: 0, open: 1, run: 2, close: 3, compress: 4, part: 5 };

/** What the module says is wrong; after any other exception it may not be used any more. */
export class ModuleError extends Error {}

/** Makes an instance of the module from its bytes. `call` throws a ModuleError with the module's text. */
export async function instantiate(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { memory, slq_argument, slq_call, slq_answer, slq_answer_length } = instance.exports;
  function call(number, a = 0, b = 0, argument = new Uint8Array()) {
    // A call may grow the memory: views of it are made anew each time.
    const at = slq_argument(argument.length) >>> 0;
    new Uint8Array(memory.buffer, at, argument.length).set(argument);
    const code = slq_call(number, a, b);
    const start = slq_answer() >>> 0;
    const answer = new Uint8Array(memory.buffer, start, slq_answer_length() >>> 0).slice();
    if (code !== 0) throw new ModuleError(new TextDecoder().decode(answer));
    return answer;
  }
  return { call, memory };
}

/** The argument of `Call.run`: rank, extents, values. */
export function runArgument(shape, values) {
  const bytes = new ArrayBuffer(4 * (1 + shape.length + values.length));
  new Uint32Array(bytes, 0, 1 + shape.length).set([shape.length, ...shape]);
  new Float32Array(bytes, 4 * (1 + shape.length)).set(values);
  return new Uint8Array(bytes);
}

export const json = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
export const floats = (bytes) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
