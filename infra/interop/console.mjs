// The console in headless Chromium: each page, 400 and 1280 pixels wide, light and dark. A page must load nothing of another origin, break no
// rule of its Content-Security-Policy, scroll sideways in no width, pass axe-core (WCAG 2.2 AA), and be usable with the keyboard alone.
//
//   node console.mjs ADDRESS FOLDER     ADDRESS is the one that `toolfleet dev` prints; screenshots go to FOLDER
//   node console.mjs ADDRESS            each page once, the wide and light ones by turns with the narrow and dark ones, without screenshots
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [address, folder] = process.argv.slice(2);
const origin = new URL(address).origin;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const pages = {
  now: "/",
  servers: "/servers",
  server: "/server?id=demo",
  tools: "/tools",
  tool: "/tool?name=flaky",
  history: "/history?tenant=demo&since=1d",
  failed: "/history?tenant=demo&since=1d&failed=1",
  call: "/call?tenant=demo&call=c-fail",
  waiting: "/call?tenant=demo&call=c-paused",
  unknown: "/call?tenant=demo&call=none",
  group: "/group?tenant=demo&group=turn-1",
  "dead-letters": "/dead-letters",
  error: "/history?tenant=%23",
};
const problems = [];
const wrong = (where, what) => problems.push(`${where}: ${what}`);
const views = folder === undefined
  ? [["light", 1280], ["dark", 400]]
  : [["light", 400], ["light", 1280], ["dark", 400], ["dark", 1280]];
if (folder !== undefined) mkdirSync(folder, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell",
  args: ["--no-sandbox"],
});

/** A context that notes what a page must not do. */
async function context(options) {
  const made = await browser.newContext(options);
  made.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`)) wrong(request.url(), "a request to another origin");
  });
  made.on("console", (message) => {
    const told = /Failed to load resource.*40[04]/.test(message.text());
    if (message.type() === "error" && !told) wrong("console", message.text());
  });
  return made;
}

async function check(page, where) {
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth);
  if (wide > 0) wrong(where, `is ${wide} pixels wider than its window`);
  // The page forbids scripts; the debugger's protocol may add one all the same.
  await page.evaluate(axe);
  const found = await page.evaluate((tags) => window.axe.run(document, { runOnly: tags }), tags);
  for (const violation of found.violations) {
    wrong(where, `axe ${violation.id}: ${violation.help} (${violation.nodes[0].html.slice(0, 160)})`);
  }
}

let checked = 0;
for (const [turn, [scheme, width]] of views.entries()) {
  const made = await context({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: "reduce" });
  const page = await made.newPage();
  const look = async (name) => {
    await check(page, `${name} ${width} ${scheme}`);
    checked += 1;
    if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}-${width}-${scheme}.png`), fullPage: true });
  };
  await page.goto(`${origin}/login`);
  await look("login");
  await page.goto(address);
  if (page.url().includes("token")) wrong(page.url(), "the token stays in the address");
  for (const [place, [name, path]] of Object.entries(pages).entries()) {
    if (folder === undefined && place % views.length !== turn) continue;
    await page.goto(origin + path);
    await look(name);
  }
  await made.close();
}

// With the keyboard: the skip link comes first and is seen, each stop is seen, a search is sent with Enter, and the login takes a pasted token.
const made = await context({ viewport: { width: 1280, height: 900 } });
const page = await made.newPage();
await page.goto(address);
await page.keyboard.press("Tab");
const skip = await page.evaluate(() => {
  const { x, y } = document.activeElement.getBoundingClientRect();
  return { text: document.activeElement.textContent, seen: x >= 0 && y >= 0 };
});
if (!skip.seen || !skip.text.startsWith("Skip")) wrong("keyboard", `the first stop is ${JSON.stringify(skip)}`);
await page.keyboard.press("Enter");
if (!(await page.evaluate(() => document.activeElement.id === "main"))) wrong("keyboard", "the skip link does not lead to the content");
await page.goto(`${origin}/servers`);
const stops = new Set();
for (let at = 0; at < 40; at += 1) {
  await page.keyboard.press("Tab");
  const stop = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return { tag: document.activeElement.outerHTML.slice(0, 80), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 };
  });
  if (stop.tag.startsWith("<body")) break;
  if (!stop.seen) wrong("keyboard", `the focus is not seen on ${stop.tag}`);
  stops.add(stop.tag);
}
if (stops.size < 8) wrong("keyboard", `only ${stops.size} stops`);
await page.focus("input[name=q]");
await page.keyboard.type("demo");
await page.keyboard.press("Enter");
await page.waitForURL(/servers\?q=demo/);
await page.click("text=Log out");
await page.waitForURL(/login/);
await page.goto(`${origin}/tools`);
await page.focus("input[name=token]");
await page.keyboard.insertText(new URL(address).searchParams.get("token"));
await page.keyboard.press("Enter");
await page.waitForURL(`${origin}/tools`);
await browser.close();

for (const problem of problems) console.error(problem);
console.log(`${Object.keys(pages).length + 1} pages, ${checked} looks; ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
