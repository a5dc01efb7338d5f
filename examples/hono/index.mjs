// A registry beside a Hono application on Node, by `nodeHandler()`: what is not for the registry goes on to Hono.
import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = new Hono();

app.get('/', (c) => c.text('an application with a registry in it\n'));

const forHono = getRequestListener(app.fetch);
const forRegistry = registry.nodeHandler();

start(
  createServer((req, res) => {
    forRegistry(req, res, (error) => (error ? res.writeHead(500).end() : forHono(req, res)));
  }),
);
