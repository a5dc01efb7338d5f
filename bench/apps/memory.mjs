// The least that node:http can do: a fixed Buffer per path. Arguments: a folder of files, of which those whose name ends in .gz are gzip answers, and optionally
//   web   a new Web stream of the Buffer for each answer, piped out as the README of the replaced package does it
import { readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { listening } from './listening.mjs';

/** Nobody would keep larger ones in memory. */
const LARGEST = 8 << 20;

const [folder, how] = process.argv.slice(2);
const answers = new Map();
for (const name of readdirSync(folder)) {
  const file = join(folder, name);
  if (statSync(file).size > LARGEST) continue;
  const body = readFileSync(file);
  const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length };
  if (name.endsWith('.gz')) headers['Content-Encoding'] = 'gzip';
  answers.set(`/${name}`, { body, headers });
}

function direct(res, { body, headers }) {
  res.writeHead(200, headers);
  res.end(body);
}

function web(res, { body, headers }) {
  res.statusCode = 200;
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(body);
      controller.close();
    },
  });
  Readable.fromWeb(stream).pipe(res);
}

const send = how === 'web' ? web : direct;

listening(
  http.createServer((req, res) => {
    const answer = answers.get(req.url);
    if (!answer) return void res.writeHead(404).end();
    send(res, answer);
  }),
);
