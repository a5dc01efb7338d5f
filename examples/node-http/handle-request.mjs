// A registry in a server of `node:http`, by `handleRequest()`.
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

async function answer(req, res) {
  if (req.url === '/') {
    res.end('an application with a registry in it\n');
    return;
  }
  const response = await registry.handleRequest({
    method: req.method,
    path: req.url,
    headers: req.headers,
    query: {}, // it is in `url`
    body: req,
  });
  res.writeHead(response.status, response.headers);
  if (response.body) await pipeline(Readable.fromWeb(response.body), res);
  else res.end();
}

// A client that leaves midway fails its own answer and nothing else.
start(createServer((req, res) => void answer(req, res).catch((error) => res.destroy(error))));
