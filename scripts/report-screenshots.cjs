// See scripts/report-screenshots: node report-screenshots.cjs CHROMIUM PAGE FOLDER
const { chromium } = require("playwright-core");
const fs = require("fs");
const os = require("os");
const path = require("path");

const [, , executablePath, page, out] = process.argv;
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const views = [
  { name: "light", colorScheme: "light", width: 1200 },
  { name: "dark", colorScheme: "dark", width: 1200 },
  { name: "narrow", colorScheme: "light", width: 390 },
];
const args = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

(async () => {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "report-screenshots-"));
  let wrong = 0;
  for (const view of views) {
    const context = await chromium.launchPersistentContext(path.join(profile, view.name), {
      executablePath, args, colorScheme: view.colorScheme, viewport: { width: view.width, height: 900 }, bypassCSP: true,
    });
    const tab = await context.newPage();
    const asked = [];
    tab.on("request", (r) => { if (!r.url().startsWith("file:") && !r.url().startsWith("data:")) asked.push(r.url()); });
    await tab.goto("file://" + page);
    await tab.screenshot({ path: path.join(out, view.name + ".png"), fullPage: true });
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await tab.evaluate(axe);
    const found = await tab.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
    for (const v of found.violations) {
      console.log(`${view.name}: ${v.id} (${v.impact}): ${v.help}; ${v.nodes.length} places, such as ${v.nodes[0].html.slice(0, 160)}`);
    }
    if (wide > 0) console.log(`${view.name}: the page is ${wide} pixels wider than the window`);
    for (const url of asked) console.log(`${view.name}: the page asks for ${url}`);
    wrong += found.violations.length + (wide > 0) + asked.length;
    console.log(`${view.name}: ${found.passes.length} checks of axe passed, ${found.violations.length} failed`);
    if (view.name === "light") await tab.pdf({ path: path.join(out, "print.pdf"), format: "A4" });
    await context.close();
  }
  fs.rmSync(profile, { recursive: true, force: true });
  process.exit(wrong ? 1 : 0);
})().catch((error) => { console.error(String(error)); process.exit(1); });
