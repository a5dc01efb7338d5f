// Writes by plain node:http, as short as one would write them. Arguments: the folder to write to, and `--fsync` to answer only when the disk has it.
//   PUT /blob            the body into a temporary file while it is hashed, then renamed to its SHA-256
//   PUT /npm/NAME        the document of `npm publish`: parsed whole, its tarball decoded, checked and written, then an index.json beside it
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { listening } from './listening.mjs';

const [folder, flag] = process.argv.slice(2);
const durable = flag === '--fsync';

listening(
  http.createServer((req, res) => {
    const work = req.url === '/blob' ? putBlob(req) : publish(req);
    work.then(
      (answer) => reply(res, 201, answer),
      (error) => reply(res, 400, { error: error.message }),
    );
  }),
);

async function putBlob(req) {
  const temporary = join(folder, randomUUID());
  const hash = createHash('sha256');
  req.on('data', (chunk) => hash.update(chunk));
  await pipeline(req, createWriteStream(temporary));
  if (durable) await sync(temporary);
  const digest = hash.digest('hex');
  await rename(temporary, join(folder, digest));
  if (durable) await sync(folder);
  return { digest };
}

async function publish(req) {
  const { name, versions, _attachments: attachments, ...rest } = JSON.parse((await buffer(req)).toString());
  const [[file, { data }]] = Object.entries(attachments);
  const [{ dist }] = Object.values(versions);
  const tarball = Buffer.from(data, 'base64');
  if (dist.integrity !== `sha512-${createHash('sha512').update(tarball).digest('base64')}`) throw new Error('the tarball has another hash');
  const place = join(folder, name);
  await mkdir(place);
  await write(join(place, file), tarball);
  await write(join(place, 'index.json'), JSON.stringify({ ...rest, name, versions }));
  if (durable) {
    await sync(place);
    await sync(folder);
  }
  return { ok: true };
}

async function write(path, content) {
  const file = await open(path, 'w');
  try {
    await file.writeFile(content);
    if (durable) await file.sync();
  } finally {
    await file.close();
  }
}

/** A file's content, or a folder's entries. */
async function sync(path) {
  const file = await open(path);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function reply(res, status, answer) {
  const body = JSON.stringify(answer);
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  res.end(body);
}
