// A registry in a Hono application, by `handleRequest()`: Web streams in and out, on any runtime that Hono runs on and that loads addons.
import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = new Hono();

app.get('/', (c) => c.text('an application with a registry in it\n'));

app.all('*', async (c) => {
  // `c.req.path` is decoded already; names with a slash in them need it as it was sent.
  const { pathname, searchParams } = new URL(c.req.url);
  const { status, headers, body } = await registry.handleRequest({
    method: c.req.method,
    path: pathname,
    headers: c.req.raw.headers,
    query: searchParams,
    body: c.req.raw.body,
  });
  return new Response(body, { status, headers });
});

start(createServer(getRequestListener(app.fetch)));
