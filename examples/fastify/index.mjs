// A registry in a Fastify application, by `nodeHandler()` as a middleware of `@fastify/middie`, which runs before Fastify reads bodies.
import middie from '@fastify/middie';
import fastify from 'fastify';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = fastify();

await app.register(middie);
app.use(registry.nodeHandler());

app.get('/', () => 'an application with a registry in it\n');

await start(app);
