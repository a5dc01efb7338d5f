// What commands share that work on a whole registry, on the same data as the server, also while it runs.
'use strict';

const { randomBytes } = require('node:crypto');
const { SmartRegistry } = require('../registry.cjs');
const { loadConfig } = require('./config.cjs');

/**
 * Runs `work` with the registry of the data that `options` name.
 *
 * @template T
 * @param {{ data?: string, config?: string }} options
 * @param {(registry: SmartRegistry) => Promise<T>} work
 * @returns {Promise<T>}
 */
async function withRegistry(options, work) {
  const config = await loadConfig(options);
  // Nobody gets a token from this process, and it does only what it was told to.
  config.auth.jwtSecret ||= randomBytes(32).toString('base64url');
  config.maintenance = { ...config.maintenance, enabled: false };
  delete config.webhooks;
  const registry = new SmartRegistry(config);
  try {
    await registry.init();
    return await work(registry);
  } finally {
    await registry.destroy();
  }
}

module.exports = { withRegistry };
