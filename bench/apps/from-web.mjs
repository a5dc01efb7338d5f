// A registry under node:http as the README of the replaced package writes it for Express: handleRequest(), and the answer's Web stream piped out.
// Argument: a file with the configuration.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Readable } from 'node:stream';
import { SmartRegistry } from 'smartregistry-native';
import { listening } from './listening.mjs';

const registry = new SmartRegistry(JSON.parse(readFileSync(process.argv[2], 'utf8')));
await registry.init();
const server = http.createServer(async (req, res) => {
  const [path, search] = req.url.split('?');
  const response = await registry.handleRequest({
    method: req.method,
    path,
    headers: req.headers,
    query: Object.fromEntries(new URLSearchParams(search)),
    body: req,
  });
  res.statusCode = response.status;
  for (const [key, value] of Object.entries(response.headers)) {
    res.setHeader(key, value);
  }
  if (response.body) {
    Readable.fromWeb(response.body).pipe(res);
  } else {
    res.end();
  }
});
listening(server, () => registry.destroy());
