// A registry in an Express application, by `handleRequest()` behind body parsers: the code of applications that come from `@push.rocks/smartregistry`.
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import express from 'express';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = express();

app.get('/', (req, res) => {
  res.send('an application with a registry in it\n');
});

// The limits are those of what can be published: Express refuses what is larger, and the registry never sees it. Without them 100 kB is the end.
app.use(express.json({ limit: '100mb', strict: false }));
app.use(express.urlencoded({ extended: false }));
app.use(express.raw({ limit: '1gb', type: () => true }));

// Express 4 spells this '*'.
app.all('/{*path}', async (req, res) => {
  const response = await registry.handleRequest({
    method: req.method,
    path: req.path,
    headers: req.headers,
    query: req.query,
    body: req.body,
  });
  res.status(response.status);
  for (const [key, value] of Object.entries(response.headers)) {
    res.setHeader(key, value);
  }
  if (response.body) {
    Readable.fromWeb(response.body).pipe(res);
  } else {
    res.end();
  }
});

start(createServer(app));
