// `gc`: removes what nothing names any more, on the same data as the server, also while it runs.
'use strict';

const { randomBytes } = require('node:crypto');
const { SmartRegistry } = require('../registry.cjs');
const { loadConfig } = require('./config.cjs');
const { progress } = require('./progress.cjs');

/** Kinds of things by what one and several of them are called. */
const WORDS = { sessions: ['upload session', 'upload sessions'], repositories: ['repository', 'repositories'], referrers: ['referrer', 'referrers'] };

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

function size(bytes) {
  const unit = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  return `${unit === 0 ? bytes : (bytes / 1024 ** unit).toFixed(1)} ${UNITS[unit]}`;
}

function count(kind, number) {
  const [one, many] = WORDS[kind] ?? [kind.replace(/s$/, ''), kind];
  return `${number} ${number === 1 ? one : many}`;
}

/** @param {any} report what a protocol has to say */
function* lines(protocol, report, dryRun) {
  for (const { kind, name, reason } of report.details) yield `${protocol}: ${count(kind, 1).slice(2)} ${name}: ${reason}`;
  for (const warning of report.warnings) yield `${protocol}: warning: ${warning}`;
  const removed = Object.entries(report.removed).map(([kind, number]) => count(kind, number));
  const verb = dryRun ? 'would remove' : 'removed';
  yield `${protocol}: ${verb} ${removed.join(', ') || 'nothing'}${report.bytes > 0 ? `, which ${dryRun ? 'would free' : 'frees'} ${size(report.bytes)}` : ''}`;
}

/** @param {{ dryRun?: boolean, json?: boolean, data?: string, config?: string }} options */
async function gc({ dryRun = false, json = false, ...options }) {
  const config = await loadConfig(options);
  // Nobody gets a token from this process, and it does only what it was told to.
  config.auth.jwtSecret ||= randomBytes(32).toString('base64url');
  config.maintenance = { ...config.maintenance, enabled: false };
  const registry = new SmartRegistry(config);
  try {
    await registry.init();
    const shown = await progress({ quiet: json });
    const report = await registry.gc({ dryRun, onProgress: shown.show }).finally(shown.stop);
    if (json) {
      process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
      return;
    }
    const all = Object.entries(report.protocols).flatMap(([protocol, one]) => [...lines(protocol, one, dryRun)]);
    process.stdout.write(`${(all.length > 0 ? all : ['nothing here is collected']).join('\n')}\n`);
  } finally {
    await registry.destroy();
  }
}

module.exports = { gc };
