// node http2.mjs SECURE_URL PLAIN_URL AUTHORITY: features of HTTP/2 by Node's own client, a line of JSON for each.

import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [secureUrl, plainUrl, authority] = process.argv.slice(2);
const ca = readFileSync(authority);

function connect(url) {
  const session = http2.connect(url, { ca });
  session.on("error", () => {});
  return session;
}

// One request; resolves with its head, body and trailers.
function ask(session, fields, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": "/echo", ...fields }, { endStream: body === undefined });
    const pieces = [];
    let head, trailers;
    stream.on("response", (found) => { head = found; });
    stream.on("trailers", (found) => { trailers = found; });
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => resolve({ head, trailers, body: Buffer.concat(pieces) }));
    stream.on("error", reject);
    stream.setTimeout(15000, () => reject(new Error("timed out")));
    if (body !== undefined) stream.end(body);
  });
}

function check(truth, what) {
  if (!truth) throw new Error(what);
}

const big = Buffer.alloc(5 << 20, "node");

const features = {
  "GET": async (session) => {
    const { head, body } = await ask(session, {});
    check(head[":status"] === 200 && body.toString() === "hello", `${head[":status"]} ${body}`);
  },
  "5 MiB up and down": async (session) => {
    const { body } = await ask(session, { ":method": "POST" }, big);
    check(body.equals(big), `${body.length} bytes came back`);
  },
  "100 streams at the same time": async (session) => {
    const sizes = Array.from({ length: 100 }, (_, n) => (n + 1) * 500);
    const answers = await Promise.all(sizes.map((size) => ask(session, { ":path": `/big?size=${size}` })));
    answers.forEach(({ body }, n) => check(body.length === sizes[n], `${body.length} bytes instead of ${sizes[n]}`));
  },
  "small answers while a big one waits": async (session) => {
    const slow = session.request({ ":path": "/big?size=20000000" });
    slow.on("error", () => {});
    await new Promise((resolve) => slow.once("response", resolve));
    for (let n = 0; n < 20; n++) check((await ask(session, {})).body.toString() === "hello", "another answer");
    slow.close(http2.constants.NGHTTP2_CANCEL);
    check((await ask(session, {})).head[":status"] === 200, "the connection is of no use after a cancelled stream");
  },
  "ping": (session) => new Promise((resolve, reject) => {
    session.ping((error) => (error ? reject(error) : resolve()));
  }),
  "settings": (session) => new Promise((resolve) => session.settings({ initialWindowSize: 1 << 20 }, resolve)),
  "HEAD": async (session) => {
    const { head, body } = await ask(session, { ":method": "HEAD", ":path": "/big?size=1000" });
    check(head["content-length"] === "1000" && body.length === 0, JSON.stringify(head));
  },
  "cookies come together": async (session) => {
    const { body } = await ask(session, { ":path": "/headers", cookie: ["a=1", "b=2"] });
    const headers = JSON.parse(body);
    check(Array.isArray(headers), JSON.stringify(headers));
    const cookies = headers.filter(([name]) => name === "cookie");
    check(cookies.length === 1 && cookies[0][1] === "a=1; b=2", JSON.stringify(cookies));
  },
  "request trailers do no harm": async (session) => {
    const stream = session.request({ ":path": "/echo", ":method": "POST", trailer: "x-end" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "1" }));
    stream.end("body");
    let body = "";
    stream.setEncoding("utf8");
    for await (const piece of stream) body += piece;
    check(body === "body", body);
  },
  "GET on the same connection at the end": async (session) => {
    check((await ask(session, {})).body.toString() === "hello", "another answer");
  },
};

for (const [name, url] of [["TLS", secureUrl], ["h2c", plainUrl]]) {
  const session = connect(url);
  for (const [feature, run] of Object.entries(features)) {
    let detail = "";
    try {
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error("took too long")), 20000).unref());
      await Promise.race([run(session), late]);
    } catch (error) {
      detail = String(error);
    }
    console.log(JSON.stringify({ feature: `${name}: ${feature}`, ok: detail === "", detail }));
  }
  session.destroy();
}
process.exit(0);
