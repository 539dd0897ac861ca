// A field that takes files, dropped or chosen.

export function onFiles(label, input, take) {
  input.addEventListener("change", () => { take([...input.files]); input.value = ""; });
  for (const name of ["dragenter", "dragover"]) {
    label.addEventListener(name, (event) => { event.preventDefault(); label.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    label.addEventListener(name, (event) => { event.preventDefault(); label.classList.remove("over"); });
  }
  label.addEventListener("drop", (event) => take([...event.dataTransfer.files]));
}

export const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());
