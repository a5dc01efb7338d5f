// A registry in a Fastify application, by `handleRequest()`.
import { Readable } from 'node:stream';
import fastify from 'fastify';
import { registry } from './registry.mjs';
import { start } from './start.mjs';

const app = fastify();

app.get('/', () => 'an application with a registry in it\n');

// In a scope of its own, so that the routes of the application keep their parsers.
await app.register(async (scope) => {
  // Fastify's parsers keep bodies in memory, up to `bodyLimit`. The registry takes the stream.
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (request, payload, done) => done(null, payload));

  scope.all('/*', async (request, reply) => {
    const response = await registry.handleRequest({
      method: request.method,
      path: request.url,
      headers: request.headers,
      query: {}, // it is in `url`
      body: request.body,
    });
    reply.code(response.status).headers(response.headers);
    return reply.send(response.body && Readable.fromWeb(response.body));
  });
});

await start(app);
