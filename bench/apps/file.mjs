// Files by node:http: fs.createReadStream piped out. Argument: the folder.
import { createReadStream, existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import http from 'node:http';
import { basename, join } from 'node:path';
import { listening } from './listening.mjs';

const folder = process.argv[2];

listening(
  http.createServer(async (req, res) => {
    const file = join(folder, basename(req.url));
    if (!existsSync(file)) return void res.writeHead(404).end();
    const { size } = await stat(file);
    res.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': size });
    createReadStream(file).pipe(res);
  }),
);
