// The least that node:http can do: a fixed Buffer per path. Argument: a folder of files; those whose name ends in .gz are gzip answers.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { listening } from './listening.mjs';

/** Nobody would keep larger ones in memory. */
const LARGEST = 8 << 20;

const folder = process.argv[2];
const answers = new Map();
for (const name of readdirSync(folder)) {
  const file = join(folder, name);
  if (statSync(file).size > LARGEST) continue;
  const body = readFileSync(file);
  const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length };
  if (name.endsWith('.gz')) headers['Content-Encoding'] = 'gzip';
  answers.set(`/${name}`, { body, headers });
}

listening(
  http.createServer((req, res) => {
    const answer = answers.get(req.url);
    if (!answer) return void res.writeHead(404).end();
    res.writeHead(200, answer.headers);
    res.end(answer.body);
  }),
);
