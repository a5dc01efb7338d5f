// A gigabyte in and out through nodeHandler() while the application's event loop goes on turning.
// SMARTREGISTRY_DRILL_MIB sets the size (default 1024).
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { download, upload } from '../support/bulk.mjs';
import { password } from '../support/matrix.mjs';
import { startRegistry } from '../support/registry.mjs';
import { basicAuth } from '../support/wire.mjs';

const MIB = 1 << 20;
const size = Number(process.env.SMARTREGISTRY_DRILL_MIB ?? 1024) * MIB;

/** Milliseconds that 99 of 100 turns of the loop take at most. */
const ALLOWED = 10;

describe(`${size / MIB} MiB in and out through nodeHandler()`, () => {
  it(`keeps the event loop waiting for less than ${ALLOWED} ms (p99)`, { timeout: 600_000 }, async (t) => {
    const registry = await startRegistry('node-http', 'local');
    const loop = async (what) => {
      const waited = await (await fetch(`${registry.url}/loop`)).json();
      t.diagnostic(`${what}: p50 ${waited.p50.toFixed(2)}, p99 ${waited.p99.toFixed(2)}, max ${waited.max.toFixed(1)} ms`);
      return waited;
    };
    try {
      await registry.addUser('alice', password);
      const authorization = basicAuth('alice', password);
      await download(registry, authorization, await upload(registry, authorization, 8 * MIB));
      await loop('before');
      const digest = await upload(registry, authorization, size);
      const up = await loop('in');
      await download(registry, authorization, digest);
      const down = await loop('out');
      for (const { p99 } of [up, down]) assert.ok(p99 < ALLOWED, `the loop waited ${p99} ms`);
    } finally {
      await registry.stop();
    }
  });
});
