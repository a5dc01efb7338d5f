// `cache`: what is kept of upstreams, on the same data as the server, also while it runs.
'use strict';

const { withRegistry } = require('./operation.cjs');

/** @param {{ data?: string, config?: string }} options */
async function purgeCache(protocol, name, options) {
  const removed = await withRegistry(options, (registry) => registry.purgeUpstream(protocol, name));
  process.stdout.write(`${protocol}: removed ${removed} ${removed === 1 ? 'object' : 'objects'}\n`);
}

/** @param {string[]} names */
async function warmCache(protocol, names, options) {
  await withRegistry(options, async (registry) => {
    for (const name of names) {
      const fetched = await registry.warmUpstream(protocol, name);
      process.stdout.write(`${protocol}: ${name}: ${fetched === 0 ? 'is here' : `fetched ${fetched} ${fetched === 1 ? 'file' : 'files'}`}\n`);
    }
  });
}

module.exports = { purgeCache, warmCache };
