// A registry in an Express application, by `nodeHandler()`: bodies stream both ways, whatever their size.
import { createServer } from 'node:http';
import express from 'express';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = express();

// Before any body parser. What is not for the registry goes on to the routes below.
app.use(registry.nodeHandler());

app.use(express.json());
app.get('/', (req, res) => {
  res.send('an application with a registry in it\n');
});

start(createServer(app));
