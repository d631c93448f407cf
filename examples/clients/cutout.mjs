/* Cut out a picture with a birefnet server; Node 18 or later needs no packages, and browsers have
   the same `fetch`.

   node cutout.mjs chelsea.jpg cutout.png
   node cutout.mjs chelsea.jpg cat.webp format=webp background=white resolution=512

   BIREFNET_URL names the server, BIREFNET_API_KEY its key. */

const TRIES = 5;

/** The picture without its background, as a Blob; throws with the server's sentence.
 *  picture: a Blob or File; options: see the server's /docs, such as { format: "webp" }. */
export async function remove(picture, options = {}, { server, key } = {}) {
  const answer = await ask(picture, options, "image/*", server, key);
  return answer.blob();
}

/** All that the server says: model, coverage, confidence, is_empty, image and mask as data URIs. */
export async function describe(picture, options = {}, { server, key } = {}) {
  const answer = await ask(picture, options, "application/json", server, key);
  return answer.json();
}

async function ask(picture, options, accept, server = "http://127.0.0.1:8000", key = "") {
  const headers = { Accept: accept, ...(key && { "X-Api-Key": key }) };
  for (let left = TRIES - 1; ; left--) {
    const form = new FormData();
    form.append("file", picture, picture.name ?? "picture");
    for (const [name, value] of Object.entries(options)) form.append(name, value);
    const answer = await fetch(`${server}/v1/remove`, { method: "POST", headers, body: form });
    if (answer.ok) return answer;
    const text = await answer.text();
    // A full queue or a server on its way out says when to come again.
    const wait = answer.headers.get("Retry-After");
    if (wait === null || left === 0) throw new Error(sentence(text) ?? `${answer.status}: ${text}`);
    await new Promise((done) => setTimeout(done, 1000 * Number(wait)));
  }
}

function sentence(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return undefined; // a proxy's answer
  }
}

if (typeof process !== "undefined" && import.meta.url.endsWith(process.argv[1]?.split("/").pop())) {
  const { readFile, writeFile } = await import("node:fs/promises");
  const [source, target, ...pairs] = process.argv.slice(2);
  if (!target) {
    console.error("node cutout.mjs PICTURE RESULT [OPTION=VALUE …]");
    process.exit(2);
  }
  const options = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  const { BIREFNET_URL: server, BIREFNET_API_KEY: key } = process.env;
  try {
    const result = await remove(new Blob([await readFile(source)]), options, { server, key });
    await writeFile(target, Buffer.from(await result.arrayBuffer()));
  } catch (error) {
    console.error(`${source}: ${error.message}`);
    process.exit(1);
  }
}
