// A Node http server (llhttp, as Node sets it up). Same journal as the Python origins, see journal.py.

import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { createServer } from "node:http";

const journal = openSync(process.env.DIFFERENTIAL_JOURNAL, "a", 0o600);

function note(request, ports, body, complete) {
  const headers = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    headers.push([request.rawHeaders[i].toLowerCase(), request.rawHeaders[i + 1]]);
  }
  const seen = {
    origin: "node",
    ...ports,
    method: request.method,
    target: request.url,
    headers,
    length: body.length,
    sha: createHash("sha256").update(body).digest("hex"),
    body: body.subarray(0, 2048).toString("latin1"),
    complete,
  };
  const text = JSON.stringify(seen);
  writeSync(journal, text + "\n");
  return text;
}

function handle(request, response) {
  // A socket that is gone has no ports any more.
  const ports = { port: request.socket.localPort ?? 0, peer: request.socket.remotePort ?? 0 };
  const pieces = [];
  let noted = false;
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    noted = true;
    const text = note(request, ports, Buffer.concat(pieces), true);
    response.writeHead(200, {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
      "x-origin": "node",
    });
    response.end(text);
  });
  request.on("close", () => {
    if (!noted) {
      note(request, ports, Buffer.concat(pieces), false);
    }
  });
  request.on("error", () => undefined);
}

for (const port of process.env.DIFFERENTIAL_PORTS.split(",")) {
  const server = createServer({ keepAliveTimeout: 120000 }, handle);
  server.listen(Number(port), "127.0.0.1");
}
