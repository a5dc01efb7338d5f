// A registry in a server of `node:http`, by `nodeHandler()`: bodies stream both ways, whatever their size.
import { createServer } from 'node:http';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const handler = registry.nodeHandler();

const server = createServer((req, res) => {
  if (req.url === '/') res.end('an application with a registry in it\n');
  else handler(req, res);
});

start(server);
