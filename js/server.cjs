// `registry.listen()`.
'use strict';

const { createServer } = require('node:http');
const { RegistryError } = require('./errors.cjs');

/** A stand-in of the native listener's shape over node:http. */
async function listen(registry, { port = 0, host = '127.0.0.1' } = {}) {
  const server = createServer(registry.nodeHandler());
  await new Promise((done, fail) => {
    server.once('error', (error) => fail(new RegistryError(`cannot listen on ${host}:${port}: ${error.message}`, { status: 400 })));
    server.listen(port, host, () => done(undefined));
  });
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  const shown = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${shown}:${address.port}`,
    port: address.port,
    async close() {
      server.closeIdleConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

module.exports = { listen };
