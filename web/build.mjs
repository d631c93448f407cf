// `npm ci && npm run build`: the site, which the Python package carries, and dist/, the npm package.

import { createHash } from "node:crypto";
import { build } from "esbuild";
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const SITE = "../src/birefnet/export/site";
const PACKAGE = "dist";
const MODEL = "../src/birefnet/weights/bundled/nano";
const ORT = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";
const SOURCES = ["build.mjs", "package-lock.json", ...within("src"), ...within("static")].sort();
const LICENSED = ["onnxruntime-web", "onnxruntime-common", "fflate"];

// The same on every system: level, no time, no system's number.
const runtime = gzipSync(readFileSync(`${ORT}.wasm`), { level: 9 });
runtime[9] = 255;

for (const folder of [SITE, PACKAGE]) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(`${folder}/onnxruntime.wasm.gz`, runtime);
  copyFileSync(`${ORT}.mjs`, `${folder}/onnxruntime.js`);
  writeFileSync(`${folder}/LICENSES.txt`, licences());
  await build({
    entryPoints: ["src/worker.ts", folder === SITE ? "src/page.ts" : "src/birefnet.ts"],
    outdir: folder,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    legalComments: "none",
    conditions: ["onnxruntime-web-use-extern-wasm"],
  });
}
cpSync("static", SITE, { recursive: true });
mkdirSync(`${SITE}/examples`);
for (const name of ["astronaut", "chelsea", "leaf"]) {
  copyFileSync(`../src/birefnet/serving/page/examples/${name}.jpg`, `${SITE}/examples/${name}.jpg`);
}
// What the site was made of, for a test that it is up to date.
const sources = createHash("sha256");
for (const name of SOURCES) sources.update(readFileSync(name));
writeFileSync(`${SITE}/sources.sha256`, `${sources.digest("hex")}\n`);
cpSync(MODEL, `${PACKAGE}/model`, { recursive: true });

function within(folder) {
  return readdirSync(folder).map((name) => `${folder}/${name}`);
}

function licences() {
  const own = readFileSync("LICENSE", "utf8");
  const texts = LICENSED.map((name) => {
    const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
    // ONNX Runtime's packages name their licence, the same as ours, without its text.
    const text = name.startsWith("onnxruntime")
      ? own.replace(/^Copyright.*$/m, "Copyright (c) Microsoft Corporation")
      : readFileSync(`node_modules/${name}/LICENSE`, "utf8");
    return `${name} ${version} (${license})\n\n${text}`;
  });
  const notices = "https://github.com/microsoft/onnxruntime/blob/main/ThirdPartyNotices.txt";
  return [own, ...texts, `What ONNX Runtime is built from: ${notices}\n`].join(
    `\n${"-".repeat(72)}\n\n`,
  );
}
