import * as slq from "./slq.js";
import { startDigit } from "./digit.js";
import { startPicture } from "./picture.js";
import { startCompress } from "./compress.js";

const place = document.getElementById("about");
try {
  const { version, isa } = await slq.about();
  place.textContent = `version ${version}, kernels: ${isa}`;
} catch (error) {
  place.textContent = `The module cannot be loaded: ${error.message}`;
  place.className = "error";
}
startPicture();
startCompress();
startDigit().catch((error) => {
  document.getElementById("digit-network").textContent = `The network cannot be loaded: ${error.message}`;
});
document.documentElement.dataset.ready = "yes";
