// `serve`: the registry on its own listener.
'use strict';

const { randomBytes } = require('node:crypto');
const binding = require('../binding.cjs');
const { SmartRegistry } = require('../registry.cjs');
const { RegistryStorage } = require('../storage.cjs');
const { loadConfig } = require('./config.cjs');

/** Where the secret that signs tokens is kept when nobody has configured one. */
const SECRET_KEY = '_sr/auth/jwt-secret';

/** Made once; of several servers that start at once on the same data, all take the one that was first. */
async function keptSecret(storage) {
  const objects = new RegistryStorage(storage);
  await objects.init();
  const kept = await objects.getObject(SECRET_KEY);
  if (kept) return kept.toString();
  await objects.createObject(SECRET_KEY, randomBytes(32).toString('base64url'));
  return String(await objects.getObject(SECRET_KEY));
}

/** @param {{ port: number, host: string, data?: string, config?: string }} options */
async function serve(options) {
  // Nobody else lives in this process.
  binding.useSmallPages();
  const config = await loadConfig(options);
  if (!config.auth.jwtSecret) config.auth.jwtSecret = await keptSecret(config.storage);
  const registry = new SmartRegistry(config);
  await registry.init();
  const server = await registry.listen({ port: options.port, host: options.host });
  process.stdout.write(`listening on ${server.url}\n`);
  await new Promise((stopped) => {
    let stopping = false;
    const stop = () => {
      // Whoever asks twice does not want to wait.
      if (stopping) process.exit(1);
      stopping = true;
      server.close().then(() => registry.destroy()).then(stopped);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
}

module.exports = { serve };
